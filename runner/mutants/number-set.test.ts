import test from 'ava';
import { hasNumber, numberSet, numbersOf, sizeOf } from './number-set.ts';
import { setWith } from './testdata/number-set.ts';

test('number set: the lowest bit of the first byte is 0, and each number is found where it is', (t) => {
  t.deepEqual(numbersOf(numberSet(Uint8Array.of(0b0000_0001, 0b1000_0010, 0, 0))), [0, 9, 15]);
  const numbers = [1, 7, 8, 23, 24, 25, 47, 48, 1000, 65_535];
  const set = setWith(numbers);
  t.deepEqual(numbersOf(set), numbers);
  t.is(sizeOf(set), numbers.length);
  const found = Array.from({ length: 65_536 }, (_, at) => at).filter((at) => hasNumber(set, at));
  t.deepEqual(found, numbers);
});

test('number set: an empty one is short, and has nothing', (t) => {
  const none = numberSet(new Uint8Array(8192));
  t.is(none, '');
  t.deepEqual(numbersOf(none), []);
  t.false(hasNumber(none, 0));
  t.is(sizeOf(none), 0);
});
