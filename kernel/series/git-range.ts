import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Failure } from '#runner/lib/failure.ts';
import { git, isGitTree, resolveObject } from '../source/git.ts';
import type { LoadedSeries } from './load-series.ts';
import { seriesOfCommits } from './mbox.ts';
import { printable } from './printable.ts';

/** `A..B`, as git writes a range; `A...B` has no single start. */
export function isRange(spec: string): boolean {
  return /^[^\s.-][^\s]*?\.\.(?!\.)[^\s]*$/u.test(spec) && !spec.includes('...');
}

/** The commits of `A..B` as a series, and the commit that they start from. */
export async function rangeSeries(tree: string, range: string, signal: AbortSignal): Promise<LoadedSeries> {
  const [from = '', to = ''] = range.split('..');
  if (!(await isGitTree(tree, signal))) {
    throw new Failure('E_GIT_REF', 'user', `${tree} is no git tree, and ${printable(range)} is a git range`, {
      hint: 'name with --tree the top of a clone that has these commits',
    });
  }
  const start = await resolveObject(tree, `${from}^{commit}`, signal);
  const end = await resolveObject(tree, `${to === '' ? 'HEAD' : to}^{commit}`, signal);
  const merge = await git(tree, ['merge-base', start, end], { signal });
  const base = merge.exitCode === 0 ? merge.stdout.trim() : start;
  await refuseMerges(tree, `${start}..${end}`, range, signal);
  const commits = await formatRange(tree, `${start}..${end}`, range, signal);
  if (commits.length === 0) {
    throw new Failure('E_SERIES_EMPTY', 'series', `the range ${printable(range)} has no commit`, {
      hint: `\`git -C ${tree} log --oneline ${range}\` shows what git finds`,
    });
  }
  return { series: seriesOfCommits(commits, printable(range)), base };
}

/** A merge is no patch, and what its own diff changes would be missing: another kernel than the user named. */
async function refuseMerges(
  tree: string,
  commits: string,
  range: string,
  signal: AbortSignal,
): Promise<void> {
  const list = ['rev-list', '--merges', '--count', '--end-of-options', commits];
  const { exitCode, stdout, stderr } = await git(tree, list, { signal });
  if (exitCode !== 0) throw failed(tree, range, stderr);
  const merges = Number(stdout);
  if (merges === 0) return;
  const what = merges === 1 ? 'a merge' : `${merges} merges`;
  throw new Failure(
    'E_SERIES_MALFORMED',
    'series',
    `the range ${printable(range)} has ${what}, which no patch can be`,
    {
      hint: 'name a range that is one commit after the other: `git rebase` makes one',
    },
  );
}

/** The commits as mails, through files: a pipe would be decoded, and diffs are bytes. */
async function formatRange(
  tree: string,
  commits: string,
  range: string,
  signal: AbortSignal,
): Promise<readonly string[]> {
  const dir = await mkdtemp(join(tmpdir(), 'fusegate-range-'));
  try {
    const made = await git(tree, [...formatPatch, '--output-directory', dir, '--end-of-options', commits], {
      signal,
    });
    if (made.exitCode !== 0) throw failed(tree, range, made.stderr);
    const files = (await readdir(dir)).toSorted();
    return await Promise.all(files.map((file) => readFile(join(dir, file), 'latin1')));
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}

/** Options that pin what the user's configuration could change. */
const formatPatch = [
  '-c',
  'format.attach=false',
  '-c',
  'format.thread=false',
  '-c',
  'format.subjectPrefix=PATCH',
  '-c',
  'diff.noprefix=false',
  '-c',
  'diff.mnemonicPrefix=false',
  'format-patch',
  '--numbered',
  '--no-cover-letter',
  '--no-signature',
  '--no-base',
  '--no-ext-diff',
  '--no-textconv',
  '--no-color',
  '--binary',
  '--full-index',
  '--src-prefix=a/',
  '--dst-prefix=b/',
];

function failed(tree: string, range: string, stderr: string): Failure {
  return new Failure('E_GIT_REF', 'user', `git cannot list ${printable(range)} in ${tree}`, {
    hint: printable(stderr),
  });
}
