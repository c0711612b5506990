import test from 'ava';
import fc from 'fast-check';
import type { Stat, TreeEntry } from '#rootfs/protocol/syscalls.ts';
import { generate } from './generate.ts';
import { inWords, type TreeOperation } from './operation.ts';
import { tellTree } from './tell-tree.ts';
import { admissible, after, EMPTY_TREE, type Limits, type TreeModel } from './tree-model.ts';

const ALL: Limits = { movesDirectories: true, knowsRenameFlags: true, without: [] };
const NONE: Limits = { movesDirectories: false, knowsRenameFlags: false, without: ['link'] };
const seeds = fc.integer({ min: 1, max: 2 ** 31 - 1 });

const modelOf = (...operations: TreeOperation[]): TreeModel => operations.reduce(after, EMPTY_TREE);
const mkdir = (path: string): TreeOperation => ({ do: 'mkdir', path, mode: 0o755 });
const create = (path: string): TreeOperation => ({ do: 'create', path, mode: 0o644, length: 1, seed: 1 });
const rename = (from: string, to: string, flags: '' | 'RENAME_EXCHANGE' = ''): TreeOperation => {
  return { do: 'rename', from, to, flags };
};

test('a seed gives one sequence, and another seed another', (t) => {
  const request = { count: 50, again: 3, limits: ALL };
  t.deepEqual(generate({ seed: 7, ...request }), generate({ seed: 7, ...request }));
  t.notDeepEqual(generate({ seed: 7, ...request }), generate({ seed: 8, ...request }));
});

test('a sequence keeps to the limits of its place, and begins again as often as it is to', (t) => {
  fc.assert(
    fc.property(seeds, (seed) => {
      const operations = generate({ seed, count: 60, again: 3, limits: NONE });
      t.deepEqual(admissible(operations, NONE), operations);
      t.is(operations.filter((each) => each.do === 'again').length, 3);
      t.is(operations.length, 63);
    }),
    { numRuns: 30 },
  );
});

test('most of what changes names in a sequence works', (t) => {
  const operations = generate({ seed: 3, count: 400, again: 0, limits: ALL });
  const changes = ['mkdir', 'create', 'rename', 'unlink', 'link', 'symlink'];
  let model = EMPTY_TREE;
  let [tried, worked] = [0, 0];
  for (const operation of operations) {
    const next = after(model, operation);
    if (changes.includes(operation.do)) tried += 1;
    if (changes.includes(operation.do) && next !== model) worked += 1;
    model = next;
  }
  t.true(worked > tried / 2, `${worked} of ${tried}`);
  t.deepEqual(new Set(operations.map((each) => each.do)).size, 23, 'every kind is drawn');
});

test('a name that is moved takes what is below it along, and so do two that change places', (t) => {
  const tree = [mkdir('a'), create('a/f'), mkdir('b'), mkdir('b/d')];
  t.deepEqual([...modelOf(...tree, rename('a', 'c')).keys()].sort(), ['b', 'b/d', 'c', 'c/f']);
  const exchanged = modelOf(...tree, rename('a', 'b', 'RENAME_EXCHANGE'));
  t.deepEqual([...exchanged.keys()].sort(), ['a', 'a/d', 'b', 'b/f']);
  t.is(exchanged.get('a/d'), 'directory');
  t.deepEqual(modelOf(...tree, rename('a', 'b')), modelOf(...tree), 'ENOTEMPTY');
});

test('what a place cannot do is left out where it stands', (t) => {
  const moves = rename('a', 'c');
  t.deepEqual(admissible([mkdir('a'), moves], NONE), [mkdir('a')]);
  t.deepEqual(admissible([create('a'), moves], NONE), [create('a'), moves], 'a file may be moved');
});

test('a tree is told by what is the same everywhere, and by where it contradicts itself', (t) => {
  const stat = { mode: 0o100_644, nlink: 2, uid: 0, gid: 7, size: 3, mtimeNs: 1e15 } as Stat;
  const file: TreeEntry = {
    path: 'f',
    entry: { ino: '5', type: 8 },
    stat,
    ino: '5',
    content: 'abc',
    xattrs: { 'user.word': 'v' },
  };
  const told = 'f mode 100644 owner 0:7 mtime 1000000000000 us links 2 size 3 abc user.word=v';
  t.is(tellTree([file]), told);
  t.is(tellTree([file, { ...file, path: 'g' }]).split('\n')[1], `${told.replace('f', 'g')} the same as f`);
  const wrong = { ...file, entry: { ino: '6', type: 4 } };
  t.is(tellTree([wrong]), `${told} d_ino 6 st_ino 5 d_type 4`);
});

test('an operation is told as a person would type it', (t) => {
  t.is(inWords({ do: 'mkdir', path: 'a', mode: 0o755 }), 'mkdir path=a mode=0755');
  t.is(inWords(create('a')), 'create path=a mode=0644 length=1');
});
