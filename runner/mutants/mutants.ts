import { copyFile, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { z } from 'zod';
import { parseQuiltSeries } from '#kernel/series/quilt.ts';
import { Failure } from '#runner/lib/failure.ts';
import { projectRoot } from '#runner/lib/paths.ts';

/** Mistakes that one kernel has all of, each inactive until it is chosen. */

const mutantSchema = z.strictObject({
  /** As in `MUTANT(number)` of the patches; above 0. */
  number: z.int().min(1),
  /** Source file of the kernel. */
  file: z.string(),
  /** What the kernel does wrong with it. */
  what: z.string(),
  /** Tests that are known to notice, the surest first. */
  noticedBy: z.array(z.string()).default([]),
  /** Why no test can notice. */
  equivalent: z.string().optional(),
});
export type Mutant = z.infer<typeof mutantSchema>;

/** Mistakes for the kernel of one profile. */
export interface Catalogue {
  readonly profile: string;
  /** Directory with the patches, in the order of its file `series`. */
  readonly dir: string;
  /** The table of all its mistakes, in `dir`. */
  readonly file: string;
  /** Page with who noticed, from the project's directory. */
  readonly page: string;
}

function catalogueOf(profile: string, name: string): Catalogue {
  const dir = join(projectRoot, 'kernel', 'series', name);
  return { profile, dir, file: join(dir, 'mutants.json'), page: join('docs', `${name}.md`) };
}

export const catalogues: readonly Catalogue[] = [
  catalogueOf('mainline-6.12', 'mutants'),
  catalogueOf('v12-6.1', 'mutants-v12'),
];

/** @throws Failure E_USAGE (user). */
export function chooseCatalogue(profile: string): Catalogue {
  const found = catalogues.find((one) => one.profile === profile);
  if (found !== undefined) return found;
  throw new Failure('E_USAGE', 'user', `there are no mutants of profile ${JSON.stringify(profile)}`, {
    hint: `choose one of: ${catalogues.map((one) => one.profile).join(', ')}`,
  });
}

export async function loadMutants({ file }: Catalogue): Promise<readonly Mutant[]> {
  return z.array(mutantSchema).parse(JSON.parse(await readFile(file, 'utf8')));
}

/**
 * The series for the kernel with all mistakes of a catalogue: what the profile has applied, and the mistakes on
 * top of it, as one directory below `out`.
 * @param below the profile's own series
 */
export async function writeSeries({ dir }: Catalogue, below: string | null, out: string): Promise<string> {
  if (below === null) return dir;
  return joinSeries([...(await patchesOf(profileSeries(below))), ...(await patchesOf(dir))], out);
}

/** Directory of a profile's own series. */
export function profileSeries(name: string): string {
  return join(projectRoot, 'kernel', 'series', name);
}

/** Paths of the patches of a directory, in the order of its file `series`. */
export async function patchesOf(dir: string): Promise<readonly string[]> {
  const entries = parseQuiltSeries(await readFile(join(dir, 'series'), 'utf8'));
  return entries.map(({ file }) => join(dir, file));
}

/** Patches of several places as one series, in a directory below `out`. */
export async function joinSeries(patches: readonly string[], out: string): Promise<string> {
  const made = join(out, 'series');
  await rm(made, { recursive: true, force: true });
  await mkdir(made, { recursive: true });
  for (const path of patches) await copyFile(path, join(made, basename(path)));
  await writeFile(join(made, 'series'), patches.map((path) => `${basename(path)}\n`).join(''));
  return made;
}

/**
 * `17,20-25` → those mutants. Pure.
 * @throws Failure E_USAGE (user).
 */
export function chooseMutants(mutants: readonly Mutant[], only: string | undefined): readonly Mutant[] {
  if (only === undefined) return mutants;
  const ranges = only.split(',').map((part) => {
    const match = /^(\d+)(?:-(\d+))?$/.exec(part.trim());
    if (match === null) throw usage(only, 'it takes numbers and ranges: --only 101,401-452');
    const first = Number(match[1]);
    return { first, last: match[2] === undefined ? first : Number(match[2]) };
  });
  const chosen = mutants.filter(({ number }) =>
    ranges.some(({ first, last }) => number >= first && number <= last),
  );
  if (chosen.length === 0) throw usage(only, 'the numbers are in its mutants.json, below kernel/series/');
  return chosen;
}

function usage(only: string, hint: string): Failure {
  return new Failure('E_USAGE', 'user', `--only names no mutant: ${JSON.stringify(only)}`, { hint });
}
