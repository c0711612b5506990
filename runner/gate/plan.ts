import { confirm } from './confirm.ts';
import type { Observations, Subject } from './observations.ts';
import type { Wanted } from './sample.ts';
import { BOOT } from './sample.ts';
import type { Transition } from './transitions.ts';
import { isListed, transitionsOf } from './transitions.ts';
import { quickest } from './smoke.ts';

export interface PlanInput {
  /** Number of different kernels in a row; 0 is the base, the last one the tip of the series. */
  readonly stops: number;
  /** Stops with code that no longer is there at the tip: what they do cannot be told from it. */
  readonly transient: readonly number[];
  /** A few quick tests that every kernel has to pass. */
  readonly smoke: readonly string[];
  readonly seen: Observations;
  /** Told by Observations too: the test that fails where there is no passthrough; for series that bring it. */
  readonly probe?: string | undefined;
  /** The base is asked for passthrough first: without it most tests would tell nothing there. */
  readonly probeFirst?: boolean | undefined;
  /** Tests that are listed as failing. */
  readonly known?: ReadonlySet<string> | undefined;
}

/** What to do next, and why. */
export interface Step {
  readonly stop: number;
  readonly wanted: Wanted;
  readonly times: number;
  readonly why: string;
  /** Nobody is likely to ask this kernel again: a boot is quicker than a saved machine. */
  readonly once?: boolean | undefined;
}

/** So often a test may lose its machine before we give up on it. */
const LOST_AT_MOST = 2;
/** Up to so many kernels in question are all asked; more are halved. */
const FEW = 3;
/** So many quick tests a base without passthrough is asked, in the hope that some need none. */
const PLAIN = 8;
/** A patch that breaks more tests than this is convicted by the first of them. */
const WITNESSES = 12;

const BOOTS: Subject = { id: BOOT, test: BOOT, fault: null };

/**
 * The next kernel to boot and what to run on it, by how much it tells: base and tip; where they differ the
 * kernels in between; the culprit and its parent again and again; the rest of the kernels at least once.
 * Pure: the same observations give the same step. `undefined`: there is nothing left to learn.
 */
export function nextStep(input: PlanInput): Step | undefined {
  const { seen, stops } = input;
  const tip = stops - 1;
  const base = baseRun(input);
  if (base !== undefined) return base;
  if (!boots(0, seen)) return undefined;
  return (
    wholeRun(tip, seen, 'the tip of the series') ??
    probeAt(tip, input) ??
    baseAnswers(input) ??
    search(input) ??
    lastThatBoots(input) ??
    confirmation(input) ??
    // Before the quick look at every kernel: where everything runs no quick test is needed.
    transientRun(input) ??
    smoke(input)
  );
}

/** All of it, unless there is nothing that most tests could tell of. */
function baseRun(input: PlanInput): Step | undefined {
  const { seen, probe, probeFirst = false } = input;
  if (probeFirst && probe !== undefined) {
    if (!seen.visited(0)) {
      return { stop: 0, wanted: [probe], times: 1, why: 'does the base have passthrough at all?' };
    }
    if (seen.state(0, BOOTS) === 'bad' || seen.lacksFeature(0)) return undefined;
  }
  return wholeRun(0, seen, 'the base') ?? probeAt(0, input);
}

/**
 * Of a base without passthrough only this counts: whether what a later kernel gets wrong worked before, and a few
 * tests that every kernel of the series can be held to.
 */
function baseAnswers({ seen, stops }: PlanInput): Step | undefined {
  if (seen.isFull(0)) return undefined;
  const wanted = new Set(quickest(seen, stops - 1, PLAIN));
  for (const subject of seen.subjects()) {
    for (let stop = 1; stop < stops; stop += 1) {
      if (seen.state(stop, subject) === 'bad') wanted.add(subject.test);
    }
  }
  const open = [...wanted].filter((test) => {
    const tries = seen.of(0, test).length;
    return test !== BOOT && tries < LOST_AT_MOST && seen.lost(0, test) === tries;
  });
  if (open.length === 0) return undefined;
  const why = 'the base has no passthrough: only what a patch may have broken, and a few quick tests';
  return { stop: 0, wanted: open.toSorted(), times: 1, why };
}

function boots(stop: number, seen: Observations): boolean {
  return seen.state(stop, BOOTS) === 'good';
}

/** The tip does not boot: the last kernel that does stands in for it. */
function lastThatBoots({ seen, stops }: PlanInput): Step | undefined {
  if (seen.state(stops - 1, BOOTS) !== 'bad') return undefined;
  const last = lastBooting(seen, stops);
  return last === 0 ? undefined : wholeRun(last, seen, 'the last kernel that boots');
}

/** The last stop of those known to boot before the first that does not. Pure. */
export function lastBooting(seen: Observations, stops: number): number {
  let last = 0;
  for (let stop = 0; stop < stops && seen.state(stop, BOOTS) !== 'bad'; stop += 1) {
    if (seen.state(stop, BOOTS) === 'good') last = stop;
  }
  return last;
}

function wholeRun(stop: number, seen: Observations, what: string): Step | undefined {
  if (!seen.isFull(stop)) return { stop, wanted: 'all', times: 1, why: `everything on ${what}` };
  if (seen.lost(stop, BOOT) === 1 && !boots(stop, seen) && seen.of(stop, BOOT).length === 1) {
    return { stop, wanted: 'all', times: 1, why: `everything on ${what}, once more: the machine was lost` };
  }
  const lost = seen
    .tests()
    .filter((test) => {
      const count = seen.lost(stop, test);
      return count > 0 && count < LOST_AT_MOST && seen.of(stop, test).length === count;
    })
    .filter((test) => test !== BOOT);
  if (lost.length === 0 || !boots(stop, seen)) return undefined;
  return { stop, wanted: lost, times: 1, why: `on ${what} the machine was lost during these` };
}

/** Whether there is passthrough at all on a kernel; the tests that were selected may not tell. */
function probeAt(stop: number, { probe, seen }: PlanInput): Step | undefined {
  if (probe === undefined || !boots(stop, seen) || seen.of(stop, probe).length > 0) return undefined;
  return { stop, wanted: [probe], times: 1, why: 'is there passthrough at all?' };
}

/** Changes with kernels between both sides that have not been asked yet. */
function search(input: PlanInput): Step | undefined {
  const { seen, probe } = input;
  const votes = new Map<number, Set<string>>();
  for (const { subject, from, to } of allTransitions(input)) {
    for (const stop of probes(subject, from, to, seen)) {
      const tests = votes.get(stop) ?? new Set<string>();
      tests.add(subject.test);
      votes.set(stop, tests);
    }
  }
  const [best] = [...votes].toSorted((a, b) => b[1].size - a[1].size || a[0] - b[0]);
  if (best === undefined) return undefined;
  const [stop, tests] = best;
  if (probe !== undefined && tests.size > 0 && seen.of(stop, probe).length === 0) tests.add(probe);
  return {
    stop,
    wanted: [...tests].filter((test) => test !== BOOT).toSorted(),
    times: 1,
    why: 'base and tip differ in these: which patch is it?',
  };
}

function allTransitions({ seen, stops, known }: PlanInput): readonly Transition[] {
  return seen
    .subjects()
    .filter((subject) => !seen.isMixed(0, subject))
    .flatMap((subject) => transitionsOf(subject, seen, stops))
    .filter((transition) => !isListed(transition, known));
}

/** Kernels strictly between `from` and `to` that can still say something about the subject. */
function probes(subject: Subject, from: number, to: number, seen: Observations): readonly number[] {
  const open: number[] = [];
  for (let stop = from + 1; stop < to; stop += 1) {
    const dead = seen.visited(stop) && !boots(stop, seen);
    const tried = seen.of(stop, subject.test).length;
    if (!dead && tried < LOST_AT_MOST && seen.state(stop, subject) === 'unknown') open.push(stop);
  }
  if (open.length <= FEW) return open;
  const middle = open[Math.floor(open.length / 2)];
  return middle === undefined ? [] : [middle];
}

/** Runs that make a suspicion a certainty, on both sides of the suspected patch. */
function confirmation(input: PlanInput): Step | undefined {
  const { seen } = input;
  const wishes = new Map<string, { stop: number; times: number; tests: string[] }>();
  const all = allTransitions(input);
  const broken = new Set(all.flatMap(({ subject, kind }) => (kind === 'regression' ? [subject.id] : [])));
  for (const transition of witnesses(all)) {
    const { subject, from, to, kind } = transition;
    // That a later patch mends it again is said, and changes nothing about who broke it.
    if (kind === 'fix' && broken.has(subject.id)) continue;
    const found = confirm(transition, seen);
    if (found.state !== 'open') continue;
    const [stop, times] = found.before > 0 ? [from, found.before] : [to, found.after];
    const key = `${stop} ${times} ${subject.test === BOOT ? BOOT : ''}`;
    const wish = wishes.get(key) ?? { stop, times, tests: [] };
    if (subject.test !== BOOT) wish.tests.push(subject.test);
    wishes.set(key, wish);
  }
  const [first] = [...wishes.values()].toSorted((a, b) => b.tests.length - a.tests.length || a.stop - b.stop);
  if (first === undefined) return undefined;
  const { stop, times } = first;
  const wanted = [...new Set(first.tests)].toSorted();
  return { stop, wanted, times, why: 'is the difference there every time?' };
}

/** Of the tests that change at the same patch the first few. */
export function witnesses(transitions: readonly Transition[]): readonly Transition[] {
  const groups = Map.groupBy(transitions, ({ from, to, kind }) => `${from} ${to} ${kind}`);
  return [...groups.values()].flatMap((group) =>
    group.toSorted((a, b) => (a.subject.id < b.subject.id ? -1 : 1)).slice(0, WITNESSES),
  );
}

function smoke({ seen, stops, smoke: tests }: PlanInput): Step | undefined {
  for (let stop = 1; stop < stops - 1; stop += 1) {
    if (seen.visited(stop) && seen.of(stop, BOOT).length > 0 && !lostOnce(stop, seen)) continue;
    return { stop, wanted: tests, times: 1, why: 'every patch must boot and pass a quick test', once: true };
  }
  return undefined;
}

function lostOnce(stop: number, seen: Observations): boolean {
  const samples = seen.of(stop, BOOT);
  return samples.length < LOST_AT_MOST && samples.every((sample) => sample.seen === 'lost');
}

function transientRun({ transient, seen, stops }: PlanInput): Step | undefined {
  for (const stop of transient) {
    if (stop <= 0 || stop >= stops - 1 || seen.state(stop, BOOTS) === 'bad') continue;
    const step = wholeRun(stop, seen, 'a kernel with code that a later patch takes back');
    if (step !== undefined) return step;
  }
  return undefined;
}
