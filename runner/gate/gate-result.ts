import type { Patch } from '#kernel/series/series.ts';
import { stateFailure } from '#runner/report/builder.ts';
import type { GatePatch, GateResult, GateVerdict } from './gate-schema.ts';
import type { Verdict } from './judge.ts';
import type { Observations } from './observations.ts';
import type { PatchBuild } from './series-kernels.ts';
import type { Stop } from './stops.ts';
import { blamed } from './stops.ts';

/** What was learnt about a patch beside its kernel. */
export interface PatchCheck {
  readonly warnings: readonly string[];
  readonly lostSymbols: readonly string[];
  readonly advice: GatePatch['advice'];
}

export interface GateFacts {
  readonly series: GateResult['series'];
  readonly against: GateResult['against'];
  readonly base: string;
  readonly ref: string | null;
  readonly patches: readonly Patch[];
  readonly builds: readonly PatchBuild[];
  readonly checks: ReadonlyMap<number, PatchCheck>;
  readonly stops: readonly Stop[];
  readonly seen: Observations;
  readonly verdicts: readonly Verdict[];
  readonly steps: GateResult['steps'];
  readonly outOfTime: boolean;
  readonly notes: readonly string[];
}

/** Joins builds, observations and verdicts into the report's `gate`. Pure. */
export function gateResult(facts: GateFacts): GateResult {
  const { series, base, ref, steps, outOfTime, notes } = facts;
  return {
    series,
    against: facts.against,
    base,
    ref,
    patches: facts.patches.map((patch) => describePatch(patch, facts)),
    verdicts: facts.verdicts.map((verdict) => describeVerdict(verdict, facts)),
    steps,
    outOfTime,
    notes: [...notes],
  };
}

const NOTHING: PatchCheck = { warnings: [], lostSymbols: [], advice: [] };

function describePatch({ index, subject }: Patch, { builds, checks, stops }: GateFacts): GatePatch {
  const build = builds.find((each) => each.index === index);
  const failure = build !== undefined && 'failure' in build ? stateFailure(build.failure) : null;
  const check = checks.get(index) ?? NOTHING;
  return {
    index,
    subject,
    state: build?.state ?? 'not-run',
    sameAs: sameAs(index, stops),
    message: failure?.message ?? null,
    evidence: failure?.evidence ?? [],
    warnings: [...check.warnings],
    lostSymbols: [...check.lostSymbols],
    advice: check.advice,
  };
}

/** The first patch with the same kernel, unless it is this one. */
function sameAs(index: number, stops: readonly Stop[]): number | null {
  const first = stops.find((stop) => stop.patches.includes(index))?.patches[0];
  return first === undefined || first === index ? null : first;
}

function describeVerdict(verdict: Verdict, { stops, seen }: GateFacts): GateVerdict {
  const { subject, kind, change, mendedAt, base, patched, odds, confirmed } = verdict;
  const runs = stops.flatMap((stop, at) => {
    const counts = seen.counts(at, subject);
    return counts.runs === 0 ? [] : [{ patch: stop.patches[0] ?? 0, ...counts }];
  });
  const tells = witnessOf(verdict, stops, seen);
  return {
    id: subject.id,
    test: subject.test,
    kind,
    patch: change === null ? null : blamed(stops, change),
    mendedBy: mendedAt === null ? null : (stops[mendedAt]?.patches[0] ?? null),
    base,
    patched,
    odds,
    confirmed,
    fault: subject.fault ?? tells?.faults[0] ?? null,
    message: tells?.message ?? null,
    evidence: [...(tells?.evidence ?? [])],
    runs,
  };
}

/** The sample that shows best why the verdict is what it is: the first failure after the change, or the last one. */
function witnessOf({ subject, change, kind }: Verdict, stops: readonly Stop[], seen: Observations) {
  if (kind === 'passed' || kind === 'fixed') return undefined;
  const order = stops.map((_stop, at) => at);
  const first = change === null ? order.toReversed() : [change.to, ...order.toReversed()];
  const all = first.flatMap((at) => seen.of(at, subject.test));
  return (
    all.find(({ seen: what }) => what === 'fail') ??
    all.find(({ seen: what, faults }) => faults.length > 0 || what !== 'pass') ??
    undefined
  );
}
