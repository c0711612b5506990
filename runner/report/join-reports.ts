import type { Report } from './report.ts';
import { countTests } from './report.ts';

/** One report of several runs, as of one run with several kernels. `profile`, `rerun`: of the whole. Pure. */
export function joinReports(
  reports: readonly Report[],
  { profile, rerun }: Pick<Report, 'profile' | 'rerun'>,
): Report {
  const tests = reports.flatMap((report) => report.tests);
  const verdicts = reports.map(({ verdict }) => verdict);
  const worst = (['fail', 'inconclusive'] as const).find((verdict) => verdicts.includes(verdict));
  return {
    schema: 1,
    verdict: worst ?? (reports.length === 0 ? 'inconclusive' : 'pass'),
    kernels: reports.flatMap((report) => report.kernels),
    tests,
    faults: reports.flatMap((report) => report.faults),
    timings: sumTimings(reports.map(({ timings }) => timings)),
    counts: countTests(tests),
    gate: null,
    failure: reports.find(({ failure }) => failure !== null)?.failure ?? null,
    startedAt: reports[0]?.startedAt ?? new Date(0).toISOString(),
    profile,
    rerun,
    notes: reports.flatMap((report) => report.notes.map((note) => `${report.profile}: ${note}`)),
  };
}

type Timings = Report['timings'];

function sumTimings(all: readonly Timings[]): Timings {
  const stages = ['sourceMs', 'applyMs', 'configMs', 'buildMs', 'imageMs', 'bootMs', 'deployMs', 'suitesMs'];
  const sum = (values: readonly (number | null)[]): number | null => {
    const known = values.filter((value) => value !== null);
    return known.length === 0 ? null : known.reduce((total, value) => total + value, 0);
  };
  return {
    ...(Object.fromEntries(
      stages.map((stage) => [stage, sum(all.map((timings) => timings[stage as keyof Timings]))]),
    ) as Omit<Timings, 'totalMs'>),
    totalMs: sum(all.map(({ totalMs }) => totalMs)) ?? 0,
  };
}
