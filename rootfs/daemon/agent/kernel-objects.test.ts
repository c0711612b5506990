import test from 'ava';
import { KernelObjects } from './kernel-objects.ts';

test('kernel objects: what grows and stays is told once', async (t) => {
  const { objects, counts } = fake();
  t.deepEqual(await objects.grown(20), []);
  counts['fuse_inode'] = 3;
  t.deepEqual(await objects.grown(20), [{ name: 'fuse_inode', before: 0, now: 3 }]);
  t.deepEqual(await objects.grown(20), []);
});

test('kernel objects: what is freed a little later is no leak', async (t) => {
  const { objects, counts } = fake();
  await objects.grown(20);
  counts['fuse_inode'] = 3;
  setTimeout(() => (counts['fuse_inode'] = 0), 20);
  t.deepEqual(await objects.grown(2000), []);
});

test('kernel objects: a few open files more are those of processes kept for the next test', async (t) => {
  const { objects, counts } = fake();
  await objects.grown(20);
  counts['open files'] = 1200;
  t.deepEqual(await objects.grown(20), []);
  counts['open files'] = 2000;
  t.deepEqual(await objects.grown(20), [{ name: 'open files', before: 1000, now: 2000 }]);
});

test('kernel objects: the lowest count is the beginning, and what cannot be read is not judged', async (t) => {
  const { objects, counts } = fake();
  counts['fuse_inode'] = 5;
  await objects.grown(20);
  counts['fuse_inode'] = 1;
  await objects.grown(20);
  counts['fuse_inode'] = 2;
  t.deepEqual(await objects.grown(20), [{ name: 'fuse_inode', before: 1, now: 2 }]);
  delete counts['fuse_inode'];
  t.deepEqual(await objects.grown(20), []);
});

function fake() {
  const counts: Record<string, number> = { fuse_inode: 0, 'open files': 1000 };
  return { counts, objects: new KernelObjects((name) => counts[name]) };
}
