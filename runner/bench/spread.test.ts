import test from 'ava';
import { pairedRatios, spreadOf } from './spread.ts';

test('spread: an odd number of samples has one in the middle, whatever their order', (t) => {
  t.deepEqual(spreadOf([9, 1, 5]), { rounds: 3, min: 1, median: 5, max: 9 });
});

test('spread: an even number of samples has the mean of the two in the middle', (t) => {
  t.deepEqual(spreadOf([8, 2, 4, 100]), { rounds: 4, min: 2, median: 6, max: 100 });
});

test('spread: one sample is its own spread, none has no spread', (t) => {
  t.deepEqual(spreadOf([3]), { rounds: 1, min: 3, median: 3, max: 3 });
  t.is(spreadOf([]), undefined);
});

test('spread: samples are not sorted as text, and stay as they were', (t) => {
  const samples = [10, 9, 2];
  t.is(spreadOf(samples)?.min, 2);
  t.deepEqual(samples, [10, 9, 2]);
});

test('ratios: round by round, only where both sides were measured', (t) => {
  t.deepEqual(pairedRatios([6, 9, 8], [2, 3]), [3, 3]);
});

test('ratios: a side that took no time gives no ratio', (t) => {
  t.deepEqual(pairedRatios([6, 8], [0, 4]), [2]);
});
