import { numberSet, type NumberSet } from '../number-set.ts';

/** As the kernel would have it after coming across these. */
export function setWith(numbers: readonly number[]): NumberSet {
  const bits = new Uint8Array(8192);
  for (const number of numbers) bits[number >> 3] = (bits[number >> 3] ?? 0) | (1 << (number & 7));
  return numberSet(bits);
}
