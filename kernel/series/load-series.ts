import { Buffer } from 'node:buffer';
import { readdir, readFile, realpath, stat } from 'node:fs/promises';
import { basename, isAbsolute, join, relative } from 'node:path';
import { Failure } from '#runner/lib/failure.ts';
import { beginsAsMail, utf8OrLatin1 } from './mail.ts';
import { empty, parseMbox } from './mbox.ts';
import { fetchThread, messageIdOf } from './message-id.ts';
import { rangeSeries, isRange } from './git-range.ts';
import { diffOffset } from './diff.ts';
import { makePatch } from './patch.ts';
import { parseQuiltSeries } from './quilt.ts';
import { printable } from './printable.ts';
import { fingerprintOf, type Patch, type Series } from './series.ts';
import { parseSubject, type SubjectLine } from './subject.ts';
import { joinTrailers, parseTrailers, type Trailers } from './trailers.ts';

/** No series comes near; what does is a mistaken file. */
const maxBytes = 64 * 1024 * 1024;

export interface LoadedSeries {
  readonly series: Series;
  /** For a git range: the commit that it starts from. */
  readonly base: string | undefined;
}

/**
 * Reads what `--series` names: an mbox, a patch file, a directory with or without a quilt `series` file, a
 * git range of `tree`, or a Message-ID that b4 can fetch.
 *
 * @throws Failure E_SERIES_NOT_FOUND (user); E_SERIES_* (series) for contents that are no series.
 */
export async function loadSeries(
  spec: string,
  tree: string | undefined,
  signal: AbortSignal,
): Promise<LoadedSeries> {
  const found = await stat(spec).catch(() => undefined);
  if (found?.isDirectory() === true) return { series: await directorySeries(spec), base: undefined };
  if (found?.isFile() === true) return { series: await fileSeries(spec), base: undefined };
  if (found === undefined && tree !== undefined && isRange(spec)) return rangeSeries(tree, spec, signal);
  const id = found === undefined ? messageIdOf(spec) : undefined;
  if (id !== undefined) return { series: parseMbox(await fetchThread(id, signal), id), base: undefined };
  const hint = isRange(spec)
    ? 'a git range needs the tree that it is of: add --tree DIR'
    : 'name an mbox, a patch file, a directory of patches, a Message-ID, or with --tree a git range A..B';
  throw new Failure('E_SERIES_NOT_FOUND', 'user', `there is no series ${printable(spec)}`, { hint });
}

async function fileSeries(path: string): Promise<Series> {
  const name = printable(basename(path).replace(/\.(?:mbox|mbx|patch|diff|eml)$/u, ''));
  const text = await readText(path);
  if (text.trim() === '') throw empty(`the file ${printable(basename(path))} is empty`);
  return parsePatchText(text, name, 1);
}

/** An mbox or mail when it has a mail's headers, else a bare diff with or without text above. */
function parsePatchText(text: string, name: string, strip: number): Series {
  if (text.trim() === '') throw empty(`the file ${printable(name)} is empty`);
  if (beginsAsMail(text)) return parseMbox(text, name, strip);
  const offset = diffOffset(text);
  if (offset === undefined) {
    throw new Failure('E_SERIES_NO_DIFF', 'series', `the series ${name} has no diff`, {
      hint: 'an mbox, `git format-patch` output or a unified diff works',
    });
  }
  const diff = text.slice(offset);
  const above = text.slice(0, offset);
  const subject = /^(?:Subject|Description): (.*)$/mu.exec(above)?.[1];
  const patch = makePatch(
    {
      subject: subject === undefined ? name : parseSubject(subject).title,
      author: null,
      message: above.trim(),
      diff,
      strip,
    },
    1,
  );
  return { name, title: patch.subject, patches: [patch], fingerprint: fingerprintOf([patch]) };
}

async function directorySeries(dir: string): Promise<Series> {
  const name = printable(basename(await realpath(dir)));
  const patches: Patch[] = [];
  const trailers: Trailers[] = [];
  const numbers: SubjectLine[] = [];
  let title: string | undefined;
  for (const { file, strip } of await directoryFiles(dir)) {
    const text = await readText(await insideDirectory(dir, file));
    // A cover letter of `git format-patch --cover-letter` is a message without a diff.
    const cover = parseSubject(/^Subject: (.*(?:\n[ \t].*)*)$/mu.exec(text)?.[1] ?? '');
    trailers.push(parseTrailers(text));
    numbers.push(cover);
    if (cover.number === 0) {
      title ??= cover.title;
      continue;
    }
    for (const patch of parsePatchText(text, printable(basename(file)), strip).patches) {
      patches.push({ ...patch, index: patches.length + 1 });
    }
  }
  if (patches.length === 0) throw empty(`the directory ${printable(dir)} has no patch`);
  title ??= patches.length === 1 ? patches[0]?.subject : undefined;
  return {
    ...{ name, title: printable(title ?? name), patches, fingerprint: fingerprintOf(patches) },
    ...{ notes: numberNotes(numbers), trailers: joinTrailers(trailers) },
  };
}

/** Names decide the order in a directory; numbers in the subjects that say otherwise are worth a word. */
function numberNotes(subjects: readonly SubjectLine[]): readonly string[] {
  const numbers = subjects.flatMap(({ number }) => (number === undefined || number === 0 ? [] : [number]));
  const total = Math.max(0, ...subjects.map((subject) => subject.total ?? 0));
  const missing = Array.from({ length: total }, (_, at) => at + 1).filter((n) => !numbers.includes(n));
  const inOrder = numbers.every((number, at) => at === 0 || (numbers[at - 1] ?? 0) < number);
  return [
    ...(missing.length === 0 || numbers.length < 2
      ? []
      : [`the directory lacks patch ${missing.map((n) => `${n}/${total}`).join(', ')}`]),
    ...(inOrder ? [] : [`the files come in the order ${numbers.join(', ')} of their numbers`]),
  ];
}

async function directoryFiles(dir: string): Promise<readonly { file: string; strip: number }[]> {
  const entries = await readdir(dir);
  if (entries.includes('series')) return parseQuiltSeries(utf8OrLatin1(await readText(join(dir, 'series'))));
  return entries
    .filter((entry) => /\.(?:patch|diff|mbox|eml)$/u.test(entry))
    .toSorted((a, b) => a.localeCompare(b, 'en', { numeric: true }))
    .map((file) => ({ file, strip: 1 }));
}

async function insideDirectory(dir: string, file: string): Promise<string> {
  const path = join(dir, file);
  const outside = relative(dir, path).startsWith('..') || isAbsolute(file);
  if (outside) {
    throw new Failure(
      'E_SERIES_UNSAFE_PATH',
      'series',
      `the series file names ${printable(file)}, outside ${dir}`,
      {
        hint: 'patches listed in a quilt series file must be below its directory',
      },
    );
  }
  if ((await stat(path).catch(() => undefined))?.isFile() === true) return path;
  throw new Failure(
    'E_SERIES_INCOMPLETE',
    'series',
    `the series file names ${printable(file)}, which is not in ${dir}`,
    {
      hint: 'correct the series file or bring the patch',
    },
  );
}

async function readText(path: string): Promise<string> {
  const { size } = await stat(path);
  const name = printable(basename(path));
  if (size > maxBytes) {
    throw new Failure('E_SERIES_MALFORMED', 'series', `${name} has ${size} bytes: too large for a series`, {
      hint: 'name an mbox, a patch file or a directory of patches',
    });
  }
  const bytes = await readFile(path);
  if (!bytes.includes(0)) return Buffer.from(bytes).toString('latin1');
  const packed = bytes[0] === 0x1f && bytes[1] === 0x8b;
  throw new Failure('E_SERIES_BINARY', 'series', `${name} is not text`, {
    hint: packed ? `unpack it first: gunzip ${name}` : 'name an mbox, a patch file or a directory of patches',
  });
}
