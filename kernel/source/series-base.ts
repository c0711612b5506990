import { printable } from '../series/printable.ts';
import type { Series } from '../series/series.ts';
import { git, isGitTree } from './git.ts';

/** Where a series is put on, and what to tell people about it. */
export interface SeriesBase {
  /** Commit of the tree; `undefined`: the source as it is. */
  readonly ref: string | undefined;
  readonly notes: readonly string[];
}

export interface BaseRequest {
  readonly series: Series;
  readonly tree: string | undefined;
  /** For people: the tree or the package. */
  readonly treeLabel: string;
  /** What the user named, or where a git range starts. */
  readonly wanted: string | undefined;
  readonly signal: AbortSignal;
}

/** How far back prerequisites are looked for. Commits. */
const HISTORY = 300;

/** What the user named; else the series' own `base-commit:` when the tree has it; else the source as it is. */
export async function seriesBase(request: BaseRequest): Promise<SeriesBase> {
  const { series, tree, treeLabel, wanted, signal } = request;
  const commit = series.trailers?.baseCommit;
  const inGit = tree !== undefined && (await isGitTree(tree, signal));
  const has = commit !== undefined && inGit && (await hasCommit(tree, commit, signal));
  const ref = wanted ?? (has ? commit : undefined);
  const notes = [
    ...(commit === undefined ? [] : [baseNote({ commit, wanted, inGit, has, treeLabel })]),
    ...(await prerequisiteNotes(request, inGit ? tree : undefined, ref)),
  ];
  return { ref, notes };
}

async function hasCommit(tree: string, commit: string, signal: AbortSignal): Promise<boolean> {
  const found = await git(
    tree,
    ['rev-parse', '--verify', '--quiet', '--end-of-options', `${commit}^{commit}`],
    {
      signal,
    },
  );
  return found.exitCode === 0;
}

function baseNote(facts: {
  readonly commit: string;
  readonly wanted: string | undefined;
  readonly inGit: boolean;
  readonly has: boolean;
  readonly treeLabel: string;
}): string {
  const { commit, wanted, inGit, has, treeLabel } = facts;
  const name = `base-commit ${commit.slice(0, 12)}`;
  if (wanted !== undefined)
    return `${name} of the series was not used: --base or the range says ${printable(wanted, 60)}`;
  if (has) return `put on ${name}, which the series names`;
  return inGit
    ? `${name} is not in ${treeLabel} (asked git for it); the series was put on what the tree has, fetch it or name another with --base`
    : `${name} was not looked for, ${treeLabel} is no git repository; the series was put on it as it is; --tree takes a clone that has it`;
}

async function prerequisiteNotes(
  { series, treeLabel, signal }: BaseRequest,
  tree: string | undefined,
  ref: string | undefined,
): Promise<readonly string[]> {
  const ids = series.trailers?.prerequisites ?? [];
  if (ids.length === 0) return [];
  const count = ids.length === 1 ? '1 patch' : `${ids.length} patches`;
  if (tree === undefined) {
    return [`the series wants ${count} (prerequisite-patch-id) that cannot be looked for in ${treeLabel}`];
  }
  const there = await patchIds(tree, ref ?? 'HEAD', signal);
  const missing = ids.filter((id) => !there.has(id));
  if (missing.length === 0)
    return [`the ${count} that the series wants (prerequisite-patch-id) are in the tree`];
  const list = missing.map((id) => id.slice(0, 12)).join(', ');
  return [
    `prerequisite-patch-id ${list} is not among the last ${HISTORY} commits of ${treeLabel}: apply what is missing first`,
  ];
}

async function patchIds(tree: string, ref: string, signal: AbortSignal): Promise<ReadonlySet<string>> {
  const args = [
    'log',
    '--no-merges',
    `--max-count=${HISTORY}`,
    '--patch',
    '--no-ext-diff',
    '--no-textconv',
    '--no-color',
  ];
  const log = await git(tree, [...args, '--end-of-options', ref, '--'], { signal });
  const ids = await git(tree, ['patch-id', '--stable'], { signal, input: log.stdout });
  return new Set(ids.stdout.split('\n').map((line) => line.split(' ')[0] ?? ''));
}
