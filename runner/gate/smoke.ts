import type { Observations } from './observations.ts';
import { BOOT } from './sample.ts';

/** A read through passthrough: on a kernel on which this fails there is no passthrough. */
export const PROBE = 'passthrough-io/read-write: a read gives the backing file and sends no READ';

const QUICK = 3;
/** What a test of these does needs no passthrough: it can tell of every kernel of a series. */
const PLAIN = /\bwithout passthrough\b/u;
/**
 * Below this one test is as quick as another: what was the quickest this time may not be the next. Far from what
 * most tests take, so that few of them are on the one side today and on the other tomorrow. Milliseconds.
 */
const QUICK_MS = 4000;

/** The probe and a few of the quickest tests that pass on the base: what every kernel of a series has to do. Pure. */
export function smokeTests(seen: Observations): readonly string[] {
  const ids = quickest(seen, 0, Infinity);
  return ids.includes(PROBE)
    ? [PROBE, ...ids.filter((test) => test !== PROBE).slice(0, QUICK - 1)]
    : ids.slice(0, QUICK);
}

/**
 * So many tests that pass on a kernel, first those that need no passthrough, of them the quickest, and in an order that
 * another run of the same tests gives too: the results of an earlier gate are of use only to one that asks the same.
 * Pure.
 */
export function quickest(seen: Observations, stop: number, count: number): readonly string[] {
  const passing = seen
    .tests()
    .filter((test) => test !== BOOT && seen.of(stop, test).every((sample) => sample.seen === 'pass'))
    .flatMap((test) => seen.of(stop, test).slice(0, 1));
  const quick = passing.toSorted(
    (a, b) =>
      Number(PLAIN.test(b.test)) - Number(PLAIN.test(a.test)) ||
      slowness(a.durationMs) - slowness(b.durationMs) ||
      (a.test < b.test ? -1 : 1),
  );
  return quick.slice(0, count).map(({ test }) => test);
}

/** How often what is quick has to be doubled. */
function slowness(durationMs: number): number {
  return Math.max(0, Math.ceil(Math.log2(durationMs / QUICK_MS)));
}
