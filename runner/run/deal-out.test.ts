import test from 'ava';
import { dealOut, estimate } from './deal-out.ts';

test('deal out: the longest first, and a new file by its size', (t) => {
  const files = estimate([
    { file: 'short', bytes: 100, recordedMs: 1000 },
    { file: 'new', bytes: 250, recordedMs: undefined },
    { file: 'long', bytes: 100, recordedMs: 3000 },
  ]);
  // The known ones took 20 ms for a byte.
  t.deepEqual(files, [
    { file: 'new', expectedMs: 5000 },
    { file: 'long', expectedMs: 3000 },
    { file: 'short', expectedMs: 1000 },
  ]);
});

test('deal out: without any record the largest file comes first', (t) => {
  const known = [1, 3, 2].map((bytes) => ({ file: `f${bytes}`, bytes, recordedMs: undefined }));
  t.deepEqual(
    estimate(known).map(({ file }) => file),
    ['f3', 'f2', 'f1'],
  );
});

test('deal out: each share is about as long as the others, and every file is in one', (t) => {
  const files = [7, 5, 4, 3, 1].map((expectedMs) => ({ file: `f${expectedMs}`, expectedMs }));
  t.deepEqual(dealOut(files, 2), [
    ['f7', 'f3'],
    ['f5', 'f4', 'f1'],
  ]);
  t.deepEqual(dealOut(files.slice(0, 1), 4), [['f7']]);
});
