import { callSync } from '../sys/ffi.ts';
import { cString } from '../sys/memory.ts';

const DIGITS = 200_000;
const RUNS = 5;

/**
 * Milliseconds for a fixed amount of arithmetic: the best of five.
 *
 * libc's, which multiplies and compares once for each digit of a number, leading zeros included: how JavaScript
 * runs is another matter where this process has been told not to compile it.
 */
export function calibrate(): number {
  const digits = cString('0'.repeat(DIGITS));
  return Math.min(...Array.from({ length: RUNS }, () => once(digits)));
}

function once(digits: Uint8Array): number {
  const startedAt = performance.now();
  callSync('strtoul', [digits, null, 10]);
  return performance.now() - startedAt;
}
