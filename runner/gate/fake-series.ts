import { judge, type Verdict } from './judge.ts';
import { Observations } from './observations.ts';
import { nextStep, type Step } from './plan.ts';
import type { Sample, SampleFault, Visit } from './sample.ts';
import { BOOT } from './sample.ts';
import { PROBE, smokeTests } from './smoke.ts';

/** What one run of a test on one kernel does, for tests of the plan and of the verdicts. */
export type Behaviour = (stop: number) => Sample['seen'] | SampleFault;

export interface FakeSeries {
  readonly stops: number;
  /** By test id; `boot` may be among them, and is well when it is not. */
  readonly tests: Readonly<Record<string, Behaviour>>;
  readonly transient?: readonly number[];
  readonly known?: readonly string[];
  /** See PlanInput. */
  readonly probeFirst?: boolean;
  /** No more steps than these: the time was over. */
  readonly steps?: number;
}

export interface FakeGate {
  readonly seen: Observations;
  readonly all: readonly Verdict[];
  readonly verdicts: ReadonlyMap<string, Verdict>;
  readonly steps: readonly Step[];
}

/** Plays a gate without kernels: the plan asks, the behaviours answer, the verdicts are judged. */
export function playGate(series: FakeSeries): FakeGate {
  const { stops, transient = [], probeFirst } = series;
  const known = new Set(series.known);
  const probe = series.tests[PROBE] === undefined ? undefined : PROBE;
  const visits: Visit[] = [];
  const steps: Step[] = [];
  let seen = new Observations(visits, probe);
  for (let step = ask(); step !== undefined && steps.length < (series.steps ?? 500); step = ask()) {
    steps.push(step);
    visits.push({ stop: step.stop, wanted: step.wanted, samples: samplesOf(series, step) });
    seen = new Observations(visits, probe);
  }
  const verdicts = judge({ stops, seen, known });
  const byId = new Map(verdicts.map((verdict) => [verdict.subject.id, verdict]));
  return { verdicts: byId, all: verdicts, seen, steps };

  function ask(): Step | undefined {
    return nextStep({ stops, transient, smoke: smokeTests(seen), seen, probe, probeFirst, known });
  }
}

function samplesOf({ tests }: FakeSeries, { stop, wanted, times }: Step): readonly Sample[] {
  const ids = wanted === 'all' ? Object.keys(tests).filter((test) => test !== BOOT) : wanted;
  if (ids.length === 0) return Array.from({ length: times }, () => run(BOOT, stop, tests));
  const boot = run(BOOT, stop, tests);
  if (boot.seen !== 'pass') return [boot];
  const passes = Array.from({ length: times }, () => ids.map((test) => run(test, stop, tests)));
  return [boot, ...passes.flat()];
}

function run(test: string, stop: number, tests: FakeSeries['tests']): Sample {
  const does = tests[test]?.(stop) ?? 'pass';
  const [seen, faults] = typeof does === 'string' ? [does, []] : (['fail', [does]] as const);
  const outcome = ({ pass: 'passed', fail: 'failed', skip: 'skipped', lost: 'not-run' } as const)[seen];
  return { test, seen, outcome, message: null, durationMs: 1, faults: [...faults], evidence: [] };
}

/** mulberry32: the same numbers for the same seed. */
export function randomOf(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}
