import type { Mutant } from './mutants.ts';
import { hasNumber, sizeOf, type NumberSet } from './number-set.ts';

/** Which tests may notice a mistake, and in which order they are asked. Pure. */

export interface Reach {
  /** `area/file: title` */
  readonly id: string;
  /** Of the test on a kernel without mistakes. */
  readonly durationMs: number;
  /** Numbers of the mistakes that it comes across. */
  readonly reached: NumberSet;
}

/** The first batches are small: most mistakes are noticed at once. */
const BATCHES = [4, 16] as const;

/** Numbers on both sides of a mistake that stand for its neighbourhood. */
const NEIGHBOURS = 15;

/** That nobody can notice a mistake is what a reader says: the tests that are most likely to know better are asked. */
const MOST_OF_EQUIVALENT = 20;

/** How many tests are asked about a mistake at most. */
export function mostFor({ equivalent }: Pick<Mutant, 'equivalent'>, most = Infinity): number {
  return equivalent === undefined ? most : Math.min(most, MOST_OF_EQUIVALENT);
}

/**
 * Tests that are known to notice come first, by themselves; then those that come to places nearby where few do,
 * come across few mistakes in all and take little time, `most` of them.
 */
export function batchesFor(
  number: number,
  tests: readonly Reach[],
  noticedBy: readonly string[],
  most = Infinity,
): readonly (readonly string[])[] {
  const nearby = rarityNear(number, tests);
  const candidates = tests
    .filter(({ reached }) => hasNumber(reached, number))
    .map(({ id, durationMs, reached }) => ({
      id,
      cost: (Math.max(50, durationMs) * sizeOf(reached)) / nearby(reached),
    }))
    .toSorted((a, b) => a.cost - b.cost)
    .map(({ id }) => id);
  const known = noticedBy.filter((id) => candidates.includes(id));
  let rest = candidates.filter((id) => !known.includes(id)).slice(0, most);
  const batches = known.length === 0 ? [] : [known];
  for (const size of [...BATCHES, Infinity]) {
    if (rest.length === 0) break;
    batches.push(rest.slice(0, size));
    rest = rest.slice(size);
  }
  return batches;
}

/**
 * Who decides something there that others do not is likely to look at it: of 29 mistakes and the test that a
 * reader named for each, 22 tests were among the first ten by this, 17 by cost alone.
 */
function rarityNear(number: number, tests: readonly Reach[]): (reached: NumberSet) => number {
  const near = Array.from({ length: 2 * NEIGHBOURS + 1 }, (_, at) => number - NEIGHBOURS + at)
    .filter((one) => one >= 0)
    .map((one) => ({ one, count: tests.filter(({ reached }) => hasNumber(reached, one)).length }));
  return (reached) =>
    near.reduce((sum, { one, count }) => (hasNumber(reached, one) ? sum + 1 / count : sum), 0);
}
