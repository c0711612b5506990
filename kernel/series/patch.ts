import { Buffer } from 'node:buffer';
import { createHash } from 'node:crypto';
import { Failure } from '#runner/lib/failure.ts';
import { canonicalDiff, DiffError, parseDiff, type FileDiff } from './diff.ts';
import { utf8OrLatin1 } from './mail.ts';
import { printable } from './printable.ts';
import type { Patch } from './series.ts';

export interface PatchText {
  readonly subject: string;
  readonly author: string | null;
  readonly message: string;
  /** latin1 */
  readonly diff: string;
  readonly strip: number;
}

/**
 * Checks a patch and gives it its place in the series.
 *
 * @throws Failure E_SERIES_MALFORMED, E_SERIES_UNSAFE_PATH (series), naming the patch.
 */
export function makePatch(text: PatchText, index: number): Patch {
  const subject = printable(text.subject) || `patch ${index}`;
  const name = `patch ${index} (${subject})`;
  const diffs = readDiff(text.diff, name);
  const files = new Set<string>();
  for (const diff of diffs) {
    for (const written of diff.names) files.add(safePath(written, text.strip, name));
    refuseSpecialModes(diff, name);
  }
  if (files.size === 0) throw malformed(name, 'its diff names no file');
  return {
    index,
    subject,
    author: text.author === null ? null : printable(text.author) || null,
    message: text.message,
    diff: Buffer.from(text.diff, 'latin1'),
    strip: text.strip,
    files: [...files].toSorted(),
    fingerprint: createHash('sha256')
      .update(`p${text.strip}\n${canonicalDiff(text.diff)}`, 'latin1')
      .digest('hex'),
  };
}

function readDiff(diff: string, name: string): readonly FileDiff[] {
  try {
    return parseDiff(diff);
  } catch (error) {
    if (error instanceof DiffError) throw malformed(name, `its diff is broken at ${error.message}`, error);
    throw error;
  }
}

/** The path in the tree, or a refusal: nothing outside the tree, nothing that git itself would act on. */
function safePath(written: string, strip: number, name: string): string {
  const shown = printable(JSON.stringify(utf8OrLatin1(written)));
  const parts = written.split('/');
  const path = utf8OrLatin1(parts.slice(strip).join('/'));
  const inside = path.split('/');
  const bad =
    written.startsWith('/') ||
    path === '' ||
    inside.some((part) => part === '..' || part === '.' || part === '' || /^\.git$/iu.test(part)) ||
    parts.slice(0, strip).includes('..') ||
    /[\0\n\r]/u.test(path);
  if (!bad) return path;
  throw new Failure('E_SERIES_UNSAFE_PATH', 'series', `${name} touches ${shown}, outside the kernel tree`, {
    hint: 'paths in a patch must be relative to the tree, below one leading component such as a/ and b/',
  });
}

function refuseSpecialModes(diff: FileDiff, name: string): void {
  const mode = diff.modes.find((candidate) => candidate.startsWith('120') || candidate.startsWith('160'));
  if (mode === undefined) return;
  const what = mode.startsWith('120') ? 'a symbolic link' : 'a submodule';
  throw new Failure(
    'E_SERIES_UNSAFE_PATH',
    'series',
    `${name} makes ${what}, which fusegate does not apply`,
    {
      hint: 'build the tree yourself and name it with --tree or its bzImage with --kernel',
    },
  );
}

export function malformed(name: string, what: string, cause?: unknown): Failure {
  return new Failure('E_SERIES_MALFORMED', 'series', `${name}: ${what}`, {
    hint: 'was it cut or changed by a mail program? `git format-patch` output and raw mbox files work',
    cause,
  });
}
