import { globSync } from 'node:fs';
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { exec } from '#runner/lib/exec.ts';
import { Failure } from '#runner/lib/failure.ts';
import { pristineSource, type KernelContext } from '../prepare-kernel.ts';
import type { Profile } from '../profile.ts';
import { applySeries } from '../series/apply.ts';
import { loadSeries } from '../series/load-series.ts';
import { withoutGitVariables } from '../source/git.ts';
import { mutateSource, type PlacedMutant } from './mutate-source.ts';

export interface MutationRequest {
  /** Whose source is mutated. */
  readonly profile: Profile;
  /** A kernel tree of the user's own, instead of the profile's source. */
  readonly tree?: string | undefined;
  /** Directory of the series that comes before; it has `MUTANT()`. */
  readonly series: string;
  /** Which files of the source, as globs; what begins with `!` is left out. */
  readonly files: readonly string[];
}

export interface MutationPatch {
  readonly path: string;
  readonly mutants: readonly PlacedMutant[];
}

/** As many as the kernel's bitmap of them has places for. */
const MOST = 65_535;

/**
 * A patch that puts every mutant of these files into the source, as it is after the series. Below `context.out`.
 * @throws Failure E_USAGE (user) when there are none or too many; as `prepareKernel` for source and series.
 */
export async function writeMutationPatch(
  { profile, tree, series, files }: MutationRequest,
  context: KernelContext,
): Promise<MutationPatch> {
  const dir = join(context.out, 'mutation');
  await rm(dir, { recursive: true, force: true });
  await mkdir(dir, { recursive: true });
  const source = await pristineSource({ profile, tree, fragments: [], role: 'base' }, context);
  const applied = await applySeries((await loadSeries(series, undefined, context.signal)).series, {
    tree: source,
    treeLabel: profile.name,
    worktree: join(dir, 'applied'),
    signal: context.signal,
    onApplied: () => undefined,
  });
  const mutants: PlacedMutant[] = [];
  for (const file of filesOf(source, files)) {
    const from = applied.files.includes(file) ? applied.dir : source;
    const text = await readFile(join(from, file), 'utf8');
    const mutated = mutateSource(file, text, mutants.length + 1);
    if (mutated.mutants.length === 0) continue;
    mutants.push(...mutated.mutants);
    await write(join(dir, 'a', file), text);
    await write(join(dir, 'b', file), mutated.text);
  }
  refuseNumber(mutants.length);
  const path = join(dir, 'every-mutant.patch');
  await writeFile(path, `Every mutant of ${files.join(' ')}\n\n${await difference(dir, context.signal)}`);
  return { path, mutants };
}

function filesOf(source: string, globs: readonly string[]): readonly string[] {
  const exclude = globs.filter((glob) => glob.startsWith('!')).map((glob) => glob.slice(1));
  return globs
    .filter((glob) => !glob.startsWith('!'))
    .flatMap((glob) => globSync(glob, { cwd: source, exclude }))
    .toSorted();
}

/** Of the directories `a` and `b`, as a patch of what is in them. */
async function difference(cwd: string, signal: AbortSignal): Promise<string> {
  const words = ['diff', '--no-index', '--no-prefix', '--no-color', 'a', 'b'];
  // git diff exits with 1 when they differ.
  const { stdout } = await exec('env', [...withoutGitVariables, 'git', ...words], {
    ...{ cwd, signal, env: { LC_ALL: 'C', GIT_CEILING_DIRECTORIES: dirname(cwd) } },
  });
  return `${stdout}\n`;
}

function refuseNumber(count: number): void {
  if (count > 0 && count <= MOST) return;
  throw new Failure('E_USAGE', 'user', `these files have ${count} mutants, and a kernel has 1 to ${MOST}`, {
    hint: 'name other C files of the kernel',
  });
}

async function write(path: string, text: string): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  await writeFile(path, text);
}
