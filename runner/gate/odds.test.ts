import test from 'ava';
import fc from 'fast-check';
import { chanceOfSplit, falseBlame } from './odds.ts';

const counts = fc
  .tuple(fc.integer({ min: 0, max: 25 }), fc.integer({ min: 0, max: 25 }))
  .map(([a, b]) => ({ passes: Math.min(a, b), runs: Math.max(a, b) }));

test('odds: figures that can be done by hand', (t) => {
  t.is(chanceOfSplit({ passes: 1, runs: 1 }, { passes: 0, runs: 1 }), 0.5);
  t.true(Math.abs(chanceOfSplit({ passes: 6, runs: 6 }, { passes: 0, runs: 6 }) - 1 / 924) < 1e-12);
  t.true(Math.abs(chanceOfSplit({ passes: 3, runs: 4 }, { passes: 1, runs: 4 }) - 17 / 70) < 1e-12);
  t.is(chanceOfSplit({ passes: 5, runs: 5 }, { passes: 5, runs: 5 }), 1);
  t.is(falseBlame({ passes: 0, runs: 0 }, { passes: 0, runs: 0 }), 1);
});

test('odds: a chance is a chance, and all splits together are certain', (t) => {
  fc.assert(
    fc.property(counts, counts, (better, worse) => {
      const chance = chanceOfSplit(better, worse);
      return chance >= 0 && chance <= 1;
    }),
  );
  t.pass();
});

test('odds: a worse showing is never more likely', (t) => {
  fc.assert(
    fc.property(counts, counts, (better, worse) => {
      if (worse.passes === 0 || better.passes === better.runs) return true;
      // The same passes in all, one of them moved to the better side.
      const clearer = chanceOfSplit(
        { ...better, passes: better.passes + 1 },
        { ...worse, passes: worse.passes - 1 },
      );
      return clearer <= chanceOfSplit(better, worse) + 1e-9;
    }),
  );
  t.pass();
});
