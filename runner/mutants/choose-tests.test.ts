import test from 'ava';
import { batchesFor, mostFor, type Reach } from './choose-tests.ts';
import { setWith } from './testdata/number-set.ts';

const reach = (id: string, durationMs: number, ...reached: readonly number[]): Reach => ({
  id,
  durationMs,
  reached: setWith(reached),
});

test('choose tests: only those that come across the mistake, special and quick ones first', (t) => {
  const tests = [reach('general', 100, 1, 102, 103, 104), reach('other', 100, 2), reach('special', 100, 1)];
  t.deepEqual(batchesFor(1, tests, []), [['special', 'general']]);
  t.deepEqual(batchesFor(50, tests, []), [], 'a mistake that no test comes across');
});

test('choose tests: who comes to a place nearby where others do not is asked before them', (t) => {
  const usual = Array.from({ length: 9 }, (_, nth) => reach(`usual ${nth}`, 100, 10, 12, 200 + nth));
  const [first] = batchesFor(10, [...usual, reach('the other way', 100, 10, 11, 200)], []);
  t.is(first?.[0], 'the other way');
});

test('choose tests: who is known to notice is asked first and by itself', (t) => {
  const tests = [reach('quick', 50, 1), reach('known', 5000, 1, 2)];
  t.deepEqual(batchesFor(1, tests, ['known', 'renamed since']), [['known'], ['quick']]);
});

test('choose tests: batches grow, and a limit counts those that are not known', (t) => {
  const tests = Array.from({ length: 30 }, (_, nth) => reach(`t${nth}`, 100, 7));
  const sizes = (batches: readonly (readonly string[])[]): readonly number[] =>
    batches.map(({ length }) => length);
  t.deepEqual(sizes(batchesFor(7, tests, [])), [4, 16, 10]);
  t.deepEqual(sizes(batchesFor(7, tests, ['t3'], 6)), [1, 4, 2]);
});

test('choose tests: about what is said to be equivalent a few are asked, unless even fewer were wanted', (t) => {
  t.is(mostFor({}), Infinity);
  t.is(mostFor({}, 500), 500);
  t.is(mostFor({ equivalent: 'nobody sees it' }), 20);
  t.is(mostFor({ equivalent: 'nobody sees it' }, 500), 20);
  t.is(mostFor({ equivalent: 'nobody sees it' }, 5), 5);
});
