import test from 'ava';
import fc from 'fast-check';
import { firstDifferent } from './compare.ts';
import { simpler } from './compare-files.ts';
import { admissible, MAX_SIZE, modelAfter } from './file-model.ts';
import { generate } from './generate.ts';
import { inWords, type Operation } from './operation.ts';
import { shrink } from './shrink.ts';

const seeds = fc.integer({ min: 1, max: 2 ** 31 - 1 });

test('a seed gives one sequence, and another seed another', (t) => {
  const request = { count: 50, maps: true };
  t.deepEqual(generate({ seed: 7, ...request }), generate({ seed: 7, ...request }));
  t.notDeepEqual(generate({ seed: 7, ...request }), generate({ seed: 8, ...request }));
});

test('a sequence keeps to what is left out, and the file to its greatest size', (t) => {
  fc.assert(
    fc.property(seeds, (seed) => {
      const operations = generate({ seed, count: 40, maps: true });
      t.is(operations.length, 40);
      t.deepEqual(admissible(operations), operations);
      operations.forEach((_each, index) => {
        t.true(modelAfter(operations.slice(0, index + 1)).size <= MAX_SIZE);
      });
    }),
    { numRuns: 30 },
  );
});

test('without mappings there are none', (t) => {
  const kinds = new Set(generate({ seed: 3, count: 200, maps: false }).map((each) => each.do));
  t.false(kinds.has('map-read') || kinds.has('map-write') || kinds.has('remap'));
  t.true(kinds.size > 10);
});

test('defects that are known are left out where they stand', (t) => {
  const open: Operation = { do: 'reopen', on: 'b', append: true, direct: false };
  const clear: Operation = { do: 'setfl', on: 'b', append: false, direct: false };
  t.deepEqual(admissible([open, clear]), [open], 'A8');
  t.deepEqual(admissible([clear]), [clear], 'there is nothing to clear');
  const direct: Operation = { do: 'reopen', on: 'a', append: false, direct: true };
  const unaligned: Operation = { do: 'pread', on: 'a', offset: 1, length: 10 };
  t.deepEqual(admissible([direct, unaligned]), [direct]);
  const beyond: Operation = { do: 'map-read', offset: 0, length: 1 };
  t.deepEqual(admissible([beyond]), [], 'an empty file has nothing to load');
});

test('shrinking finds the steps that matter, whatever is between', async (t) => {
  await fc.assert(
    fc.asyncProperty(fc.uniqueArray(fc.nat(500), { minLength: 2, maxLength: 120 }), async (items) => {
      const [first, last] = [items[0], items.at(-1)];
      const fails = (candidate: readonly (number | undefined)[]): Promise<boolean> => {
        return Promise.resolve(candidate.includes(first) && candidate.includes(last));
      };
      const found = await shrink<number | undefined>(items, { fails, tries: 2000 });
      t.deepEqual(found, [first, last]);
    }),
    { numRuns: 25 },
  );
});

test('shrinking makes numbers simpler and asks no more often than it may', async (t) => {
  let asked = 0;
  const write: Operation = { do: 'pwrite', on: 'a', offset: 4096, length: 9000, seed: 1 };
  const fails = (operations: readonly Operation[]): Promise<boolean> => {
    asked += 1;
    return Promise.resolve(operations.some((each) => each.do === 'pwrite' && each.length >= 1));
  };
  const found = await shrink<Operation>([write, { do: 'remap' }], { fails, simpler, tries: 20 });
  t.deepEqual(found.map(inWords), ['pwrite on=a offset=0 length=9000']);
  asked = 0;
  await shrink<Operation>(generate({ seed: 1, count: 100, maps: true }), { fails, tries: 5 });
  t.is(asked, 5);
});

test('the first call that differs is named with its operation', (t) => {
  const operations: Operation[] = [{ do: 'ftruncate', on: 'a', size: 5 }];
  const seen = (outcome: string): { step: number; call: string; outcome: string }[] => [
    { step: -1, call: 'open', outcome: 'ok' },
    { step: 0, call: 'ftruncate', outcome },
  ];
  const found = firstDifferent(['one', 'other'], [seen('EIO'), seen('0')], operations.map(inWords));
  t.deepEqual(found, {
    step: 0,
    text: 'ftruncate at or after step 1 (ftruncate on=a size=5) gave one: EIO; other: 0',
  });
  t.is(firstDifferent(['one', 'other'], [seen('0'), seen('0')], operations.map(inWords)), undefined);
});

test('of outcomes of several lines those are shown that differ', (t) => {
  const seen = (outcome: string): { step: number; call: string; outcome: string }[] => [
    { step: 0, call: 'tree', outcome },
  ];
  const found = firstDifferent(['one', 'other'], [seen('a\nb\nc'), seen('a\nc')], ['look']);
  t.is(found?.text, 'tree at or after step 1 (look) gave one: b; other: nothing more');
});
