import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
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

export const mutantSeries = join(projectRoot, 'kernel', 'series', 'mutants');
export const mutantsFile = join(mutantSeries, 'mutants.json');

export async function loadMutants(): Promise<readonly Mutant[]> {
  return z.array(mutantSchema).parse(JSON.parse(await readFile(mutantsFile, 'utf8')));
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
  if (chosen.length === 0) throw usage(only, 'the numbers are in kernel/series/mutants/mutants.json');
  return chosen;
}

function usage(only: string, hint: string): Failure {
  return new Failure('E_USAGE', 'user', `--only names no mutant: ${JSON.stringify(only)}`, { hint });
}
