import test from 'ava';
import { sampleOf } from './every-mutant.ts';
import { reachedOf } from './record.ts';
import { setWith } from './testdata/number-set.ts';

const mutants = Array.from({ length: 100 }, (_, at) => ({
  ...{ number: at + 1, file: 'fs/fuse/dir.c', what: `wrong ${at}`, noticedBy: [] },
}));
const even = Array.from({ length: 50 }, (_, at) => 2 * at + 2);
const file = (reached: readonly number[]) => ({
  hash: 'h',
  tests: [{ id: 'a/b: c', durationMs: 1, reached: setWith(reached) }],
});
const reached = reachedOf({ one: file(even.slice(0, 25)), two: file(even.slice(25)) });
const numbers = (size: number, seed: number): readonly number[] =>
  sampleOf(mutants, reached, { size, seed }).map(({ number }) => number);

test('every mutant: a sample has what some test comes across, each once', (t) => {
  t.deepEqual(
    numbers(1000, 1).toSorted((a, b) => a - b),
    even,
  );
});

test('every mutant: a larger sample of a seed begins with the smaller one, and another seed has others', (t) => {
  t.is(numbers(7, 3).length, 7);
  t.deepEqual(numbers(20, 3).slice(0, 7), numbers(7, 3));
  t.notDeepEqual(numbers(7, 4), numbers(7, 3));
});
