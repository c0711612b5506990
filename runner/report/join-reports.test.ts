import test from 'ava';
import { fakeReport, fakeTest } from './fake-report.ts';
import { joinReports } from './join-reports.ts';
import { reportSchema } from './report.ts';

const WHOLE = { profile: 'all', rerun: 'npx fusegate run --profile all' };

test('join: counts and tests of all, and each test keeps its kernel', (t) => {
  const one = fakeReport({ profile: 'one' });
  const tests = [fakeTest('reads', { kernel: 'v12-6.1/patched' })];
  const other = fakeReport({ profile: 'other', tests, faults: [], notes: ['noted'], verdict: 'pass' });
  const joined = joinReports([one, other], WHOLE);
  t.deepEqual(joined.counts, { passed: 2, failed: 2, skipped: 2, knownFailures: 1 });
  t.deepEqual(joined.tests.at(-1)?.kernel, 'v12-6.1/patched');
  t.is(joined.kernels.length, 2);
  t.deepEqual(joined.notes, ['other: noted']);
  t.is(joined.profile, 'all');
  t.true(reportSchema.safeParse(joined).success);
});

test('join: one failed run fails the whole, one open question leaves it open', (t) => {
  const of = (...verdicts: readonly ('pass' | 'fail' | 'inconclusive')[]): string =>
    joinReports(
      verdicts.map((verdict) => fakeReport({ verdict })),
      WHOLE,
    ).verdict;
  t.is(of('pass', 'pass'), 'pass');
  t.is(of('pass', 'inconclusive'), 'inconclusive');
  t.is(of('inconclusive', 'fail', 'pass'), 'fail');
  t.is(of(), 'inconclusive', 'nothing ran');
});

test('join: stages are summed, and one that ran nowhere stays without a time', (t) => {
  const { timings } = joinReports([fakeReport(), fakeReport()], WHOLE);
  t.is(timings.buildMs, 662_000);
  t.is(timings.suitesMs, null);
  t.is(timings.totalMs, 800_000);
});
