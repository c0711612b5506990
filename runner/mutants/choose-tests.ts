import { hasNumber, numbersOf, type NumberSet } from './number-set.ts';

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

/**
 * Tests that are known to notice come first, by themselves; then those that come across few mistakes and take
 * little time, `most` of them.
 */
export function batchesFor(
  number: number,
  tests: readonly Reach[],
  noticedBy: readonly string[],
  most = Infinity,
): readonly (readonly string[])[] {
  const candidates = tests
    .filter(({ reached }) => hasNumber(reached, number))
    .map(({ id, durationMs, reached }) => ({
      id,
      cost: Math.max(50, durationMs) * numbersOf(reached).length,
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
