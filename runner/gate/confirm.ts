import type { Observations } from './observations.ts';
import { BELIEVED, falseBlame } from './odds.ts';
import { BOOT } from './sample.ts';
import type { Transition } from './transitions.ts';

export type Confirmation =
  | { readonly state: 'confirmed'; readonly odds: number | null }
  /** More runs are needed: so many on the kernel before, so many on the one after. */
  | { readonly state: 'open'; readonly odds: number | null; readonly before: number; readonly after: number }
  /** As many runs as we are ready for, and still no believable difference. */
  | { readonly state: 'refuted'; readonly odds: number | null };

type Look = readonly [good: number, bad: number];

/** Fresh runs on the kernel where it passes and on the one where it fails, at each look. */
const TEST_LOOKS: readonly Look[] = [
  [6, 6],
  [12, 12],
  [20, 20],
];
/** A kernel that does not boot takes long to say so, one that boots does not. */
const BOOT_LOOKS: readonly Look[] = [
  [12, 3],
  [12, 6],
  [20, 10],
];
/** With nothing to compare with, a failure only has to be steady. */
const STEADY = 3;

/** Whether a change is to be believed, or what it takes to know. Pure. */
export function confirm(transition: Transition, seen: Observations): Confirmation {
  const { subject, from, to, kind } = transition;
  if (transition.first) return steady(transition, seen);
  const [good, bad] = kind === 'regression' ? [from, to] : [to, from];
  const [better, worse] = [seen.counts(good, subject, 'fresh'), seen.counts(bad, subject, 'fresh')];
  const odds = better.runs + worse.runs === 0 ? 1 : falseBlame(better, worse);
  for (const [index, [wantGood, wantBad]] of (subject.test === BOOT ? BOOT_LOOKS : TEST_LOOKS).entries()) {
    const missing = [wantGood - better.runs, wantBad - worse.runs].map((count) => Math.max(0, count));
    const [moreGood = 0, moreBad = 0] = missing;
    if (moreGood > 0 || moreBad > 0) {
      const [before, after] = kind === 'regression' ? [moreGood, moreBad] : [moreBad, moreGood];
      return { state: 'open', odds, before, after };
    }
    if (odds < BELIEVED) return { state: 'confirmed', odds };
    // It did not happen again a single time: more of the same would not change that.
    if (index === 0 && worse.passes === worse.runs) return { state: 'refuted', odds };
  }
  return { state: 'refuted', odds };
}

function steady({ subject, to }: Transition, seen: Observations): Confirmation {
  const { passes, runs } = seen.counts(to, subject);
  if (passes > 0) return { state: 'refuted', odds: null };
  if (runs < STEADY) return { state: 'open', odds: null, before: 0, after: STEADY - runs };
  return { state: 'confirmed', odds: null };
}
