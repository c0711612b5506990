import type { KernelImage } from '#kernel/kernel-image.ts';
import type { Stage } from '#runner/lib/events.ts';
import type { Failure } from '#runner/lib/failure.ts';
import { kernelId, stateFailure } from '#runner/report/builder.ts';
import type { Report, ReportFault, ReportTest } from '#runner/report/report.ts';
import { decideGate, isRed } from './decide.ts';
import type { GateOutcome } from './gate.ts';
import type { GateVerdict } from './gate-schema.ts';
import type { Sample } from './sample.ts';
import { BOOT } from './sample.ts';

export interface GateReportInput {
  readonly profile: string;
  readonly rerun: string;
  readonly startedAt: Date;
  readonly totalMs: number;
  readonly notes: readonly string[];
  /** Milliseconds that each stage took, over all kernels. */
  readonly stages: ReadonlyMap<Stage, number>;
  /** `undefined`: the gate did not come so far. */
  readonly outcome: GateOutcome | undefined;
  readonly failure: Failure | null;
}

/** The one report of a gate: all kernels, all that ran on them, and the verdicts. Pure. */
export function gateReport(input: GateReportInput): Report {
  const { outcome, profile, rerun, startedAt, totalMs, notes } = input;
  const failure = input.failure === null ? null : stateFailure(input.failure);
  return {
    schema: 1,
    verdict: outcome === undefined ? endVerdict(failure) : decideGate(outcome.gate),
    kernels: outcome === undefined ? [] : kernelsOf(outcome),
    tests: outcome === undefined ? [] : testsOf(outcome),
    faults: outcome === undefined ? [] : faultsOf(outcome),
    timings: timingsOf(input.stages, totalMs),
    counts: countVerdicts(outcome?.gate.verdicts ?? []),
    gate: outcome?.gate ?? null,
    failure,
    startedAt: startedAt.toISOString(),
    profile,
    rerun,
    notes: [...notes],
  };
}

function timingsOf(stages: ReadonlyMap<Stage, number>, totalMs: number): Report['timings'] {
  const of = (stage: Stage): number | null => stages.get(stage) ?? null;
  return {
    ...{ sourceMs: of('source'), applyMs: of('apply'), configMs: of('config'), buildMs: of('build') },
    ...{ imageMs: of('image'), bootMs: of('boot'), deployMs: of('deploy'), suitesMs: of('suites') },
    totalMs: Math.round(totalMs),
  };
}

function endVerdict(failure: Report['failure']): Report['verdict'] {
  return failure?.blame === 'series' || failure?.blame === 'kernel' ? 'fail' : 'inconclusive';
}

/** Regressions are what failed here; what was broken before is no news. */
export function countVerdicts(verdicts: readonly GateVerdict[]): Report['counts'] {
  const tests = verdicts.filter(({ id }) => id !== BOOT);
  const count = (...kinds: readonly GateVerdict['kind'][]): number =>
    tests.filter(({ kind }) => kinds.includes(kind)).length;
  return {
    passed: count('passed', 'fixed'),
    failed: verdicts.filter(isRed).length,
    skipped:
      count('skipped', 'not-run', 'infra', 'flaky') +
      verdicts.filter((v) => v.kind === 'regressed' && !isRed(v)).length,
    knownFailures: count('pre-existing', 'known-failure'),
  };
}

function kernelsOf({ builds, prepared }: GateOutcome): Report['kernels'] {
  return builds.flatMap((build) => {
    if (build.state !== 'built') return [];
    const { profile, release, role, series, patch, imageSha256 } = build.kernel;
    const id = kernelId(build.kernel);
    return [{ id, profile, release, role, series, patch, imageSha256, accelerator: prepared.accelerator }];
  });
}

/** One line per kernel and test; of several runs the first that was not good. */
function testsOf({ stops, visits }: GateOutcome): Report['tests'] {
  return stops.flatMap(({ kernel }, at) => {
    const samples = visits.filter(({ stop }) => stop === at).flatMap((visit) => visit.samples);
    const byTest = Map.groupBy(
      samples.filter(({ test }) => test !== BOOT),
      ({ test }) => test,
    );
    return [...byTest.values()].map((runs) => testOf(runs, kernel));
  });
}

function testOf(runs: readonly Sample[], kernel: KernelImage): ReportTest {
  const worst =
    runs.find(({ seen }) => seen === 'fail') ?? runs.find(({ seen }) => seen !== 'lost') ?? runs[0];
  const { test = '', outcome = 'not-run', durationMs = 0, message = null, evidence = [] } = worst ?? {};
  const colon = test.indexOf(': ');
  return {
    id: test,
    area: test.split('/')[0] ?? '',
    title: test.slice(colon + 2),
    kernel: kernelId(kernel),
    outcome,
    durationMs,
    message,
    evidence: [...evidence],
  };
}

function faultsOf({ stops, visits }: GateOutcome): Report['faults'] {
  const found = new Map<string, ReportFault>();
  for (const { stop, samples } of visits) {
    const kernel = stops[stop]?.kernel;
    if (kernel === undefined) continue;
    for (const { test, faults, evidence } of samples) {
      for (const fault of faults) {
        const of = test === BOOT ? null : test;
        const key = `${stop} ${fault.fingerprint} ${test}`;
        if (!found.has(key))
          found.set(key, { ...fault, kernel: kernelId(kernel), test: of, evidence: [...evidence] });
      }
    }
  }
  return [...found.values()];
}
