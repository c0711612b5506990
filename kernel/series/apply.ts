import { constants, type Stats } from 'node:fs';
import { copyFile, lstat, mkdir, readdir, rm, writeFile } from 'node:fs/promises';
import { dirname, join, relative, resolve } from 'node:path';
import { exec, type ExecResult } from '#runner/lib/exec.ts';
import { Failure } from '#runner/lib/failure.ts';
import { noticeFullDisk } from '../cache/disk-full.ts';
import { throwIfInterrupted } from '../interruption.ts';
import { withoutGitVariables } from '../source/git.ts';
import { explainConflict } from './conflict.ts';
import { printable } from './printable.ts';
import type { Patch, Series } from './series.ts';

/** What a series makes of the files it touches; every other file of the tree stays as it is. */
export interface PatchedFiles {
  /** Holds the touched files as they are after the last patch; one that is not there was deleted. */
  readonly dir: string;
  /** Paths relative to the tree, sorted. */
  readonly files: readonly string[];
}

export interface ApplyOptions {
  /** The pristine tree, only read. */
  readonly tree: string;
  readonly treeLabel: string;
  /** Worktree: made here with the touched files alone, and kept when a patch does not apply. */
  readonly worktree: string;
  readonly signal: AbortSignal;
  readonly onApplied: (patch: Patch) => void;
}

/**
 * Applies the patches one after the other as `git am` would: no fuzz, offsets allowed.
 *
 * @throws Failure E_SERIES_CONFLICT (series) with patch, file and hunk; the worktree then holds the files as
 *   the patches before left them, what of this patch did apply, and the rest as `.rej` files.
 */
export async function applySeries(series: Series, options: ApplyOptions): Promise<PatchedFiles> {
  const worktree = resolve(options.worktree);
  const files = [...new Set(series.patches.flatMap((patch) => patch.files))].toSorted();
  return noticeFullDisk(worktree, async () => {
    await rm(worktree, { recursive: true, force: true });
    await mkdir(worktree, { recursive: true });
    for (const file of files) await copyIfPresent(options.tree, worktree, file);
    for (const patch of series.patches) {
      throwIfInterrupted(options.signal);
      await applyPatch(patch, series, { ...options, worktree });
      await refuseSpecialFiles(worktree, patch);
      options.onApplied(patch);
    }
    return { dir: worktree, files: await touchedFiles(worktree, files) };
  });
}

async function applyPatch(patch: Patch, series: Series, options: ApplyOptions): Promise<void> {
  const result = await gitApply(patch, ['--verbose'], options);
  if (result.exitCode === 0) return;
  const reverse = await gitApply(patch, ['--check', '--reverse'], options);
  await gitApply(patch, ['--reject'], options);
  const saved = `${options.worktree}.${String(patch.index).padStart(4, '0')}.patch`;
  await writeFile(saved, patch.diff);
  throw explainConflict({
    patch,
    count: series.patches.length,
    stderr: result.stderr,
    alreadyThere: reverse.exitCode === 0,
    treeLabel: options.treeLabel,
    evidence: [
      { label: 'worktree (touched files only)', path: options.worktree },
      { label: 'patch', path: saved },
    ],
  });
}

async function gitApply(
  patch: Patch,
  flags: readonly string[],
  options: Pick<ApplyOptions, 'worktree' | 'signal'>,
): Promise<ExecResult> {
  const args = ['apply', `-p${patch.strip}`, '--whitespace=nowarn', ...flags, '-'];
  const config = ['-c', 'core.autocrlf=false', '-c', 'apply.ignoreWhitespace=no'];
  const result = await exec('env', [...withoutGitVariables, 'git', ...config, ...args], {
    cwd: options.worktree,
    input: patch.diff,
    signal: options.signal,
    // The worktree may lie below a repository; git must not look for one.
    env: { LC_ALL: 'C', GIT_CEILING_DIRECTORIES: dirname(options.worktree) },
  });
  // The codes of env(1) for a command that is not there or cannot be started.
  if (result.exitCode !== 127 && result.exitCode !== 126) return result;
  throw new Failure('E_TOOL_MISSING', 'infra', 'a series cannot be applied without git', {
    hint: 'run `make doctor`: it names what is missing and the command that installs it',
  });
}

/** What git made of a patch is looked at, not what its header lines say: git's reading of a mode is not ours. */
async function refuseSpecialFiles(worktree: string, patch: Patch): Promise<void> {
  const entries = await readdir(worktree, { recursive: true, withFileTypes: true });
  const special = entries.find((entry) => !entry.isFile() && !entry.isDirectory());
  if (special === undefined) return;
  const path = relative(worktree, join(special.parentPath, special.name));
  await rm(join(special.parentPath, special.name), { force: true });
  throw new Failure(
    'E_SERIES_UNSAFE_PATH',
    'series',
    `patch ${patch.index} (${patch.subject}) makes ${printable(path)} something other than a plain file`,
    { hint: 'build the tree yourself and name it with --tree or its bzImage with --kernel' },
  );
}

async function copyIfPresent(tree: string, worktree: string, file: string): Promise<void> {
  // A file that the patch takes for a directory is a conflict, which git sees only where the file is.
  const found = await firstFileOf(tree, file);
  if (found === undefined) return;
  const { path, stat } = found;
  if (!stat.isFile()) {
    throw new Failure(
      'E_SERIES_UNSAFE_PATH',
      'series',
      `the series changes ${file}, and ${path} is no plain file`,
      {
        hint: 'build the tree yourself and name it with --tree or its bzImage with --kernel',
      },
    );
  }
  const to = join(worktree, path);
  await mkdir(dirname(to), { recursive: true });
  await copyFile(join(tree, path), to, constants.COPYFILE_FICLONE);
}

/** The first of `a`, `a/b`, … up to `file` that is there and is no directory. */
async function firstFileOf(
  tree: string,
  file: string,
): Promise<{ readonly path: string; readonly stat: Stats } | undefined> {
  const parts = file.split('/');
  for (const [at] of parts.entries()) {
    const path = parts.slice(0, at + 1).join('/');
    const stat = await lstat(join(tree, path)).catch(() => undefined);
    if (stat === undefined) return undefined;
    if (!stat.isDirectory() || at === parts.length - 1) return { path, stat };
  }
  return undefined;
}

/** The declared files and whatever git wrote besides: its reading of a diff decides, not ours. */
async function touchedFiles(worktree: string, declared: readonly string[]): Promise<readonly string[]> {
  const written = (await readdir(worktree, { recursive: true, withFileTypes: true }))
    .filter((entry) => !entry.isDirectory())
    .map((entry) => relative(worktree, join(entry.parentPath, entry.name)));
  return [...new Set([...declared, ...written])].toSorted();
}
