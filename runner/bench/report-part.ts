import { Failure } from '#runner/lib/failure.ts';
import type { Report } from '#runner/report/report.ts';
import type { Figure } from './figure.ts';
import { atMost, figure } from './figure.ts';

/** A run that spent longer than this on kernel and image had something to build. Milliseconds. */
const WARM_MS = 15_000;

/**
 * Figures of a whole `make test` that was run before.
 *
 * @throws Failure E_BENCH_REPORT (user) for a run that was not warm or did not come to its end.
 */
export function measureReport(report: Report): readonly Figure[] {
  const { timings, tests, failure } = report;
  if (failure !== null) throw unfit(`ended early: ${failure.message}`);
  const built = [timings.sourceMs, timings.applyMs, timings.configMs, timings.buildMs, timings.imageMs];
  const preparing = built.reduce<number>((sum, ms) => sum + (ms ?? 0), 0);
  if (preparing > WARM_MS) {
    throw unfit(`was not warm: it spent ${Math.round(preparing / 1000)} s on its kernel and image`);
  }
  const seconds = (ms: number | null): number[] => (ms === null ? [] : [ms / 1000]);
  const optional = (id: string, title: string, ms: number | null): Figure[] =>
    ms === null ? [] : [figure(id, title, 's', seconds(ms))];
  return [
    figure(
      'report.total',
      `warm make test, ${tests.length} tests`,
      's',
      seconds(timings.totalMs),
      atMost(180),
    ),
    ...optional('report.boot', 'its boots', timings.bootMs),
    ...optional('report.deploy', 'its deployments', timings.deployMs),
    ...optional('report.suites', 'its suites', timings.suitesMs),
  ];
}

function unfit(what: string): Failure {
  return new Failure('E_BENCH_REPORT', 'user', `the run of that report ${what}`, {
    hint: 'run `make test` twice and name the second report',
  });
}
