import test from 'ava';
import { Failure } from '#runner/lib/failure.ts';
import type { Report } from '#runner/report/report.ts';
import { measureReport } from './report-part.ts';
import { throughput } from './run-part.ts';

const timings: Report['timings'] = {
  sourceMs: 300,
  applyMs: 10,
  configMs: 10,
  buildMs: 20,
  imageMs: 40,
  bootMs: 4000,
  deployMs: 900,
  suitesMs: 50_000,
  totalMs: 60_000,
};
const passed = {
  id: 'a/b: c',
  area: 'a',
  title: 'c',
  kernel: null,
  outcome: 'passed',
  durationMs: 1,
} as const;

function report(changes: Partial<Report> = {}): Report {
  return {
    schema: 1,
    verdict: 'pass',
    kernels: [],
    tests: [{ ...passed, message: null, evidence: [] }],
    faults: [],
    timings,
    counts: { passed: 1, failed: 0, skipped: 0, knownFailures: 0 },
    gate: null,
    failure: null,
    startedAt: '2026-01-01T00:00:00.000Z',
    profile: 'p',
    rerun: 'npx fusegate run',
    notes: [],
    ...changes,
  };
}

test('bench report: a warm run within three minutes meets the target', (t) => {
  const [total] = measureReport(report());
  t.is(total?.spread.median, 60);
  t.true(total?.met);
  const [slow] = measureReport(report({ timings: { ...timings, totalMs: 181_000 } }));
  t.false(slow?.met);
});

test('bench report: a run that built its kernel is not taken for a warm one', (t) => {
  const error = t.throws(() => measureReport(report({ timings: { ...timings, buildMs: 300_000 } })), {
    instanceOf: Failure,
  });
  t.is(error.code, 'E_BENCH_REPORT');
  t.regex(error.message, /not warm: it spent 300 s/);
});

test('bench report: a run that ended early is not measured', (t) => {
  const failure = { code: 'E_X', blame: 'infra', message: 'gone', hint: null, evidence: [] } as const;
  t.throws(() => measureReport(report({ failure: { ...failure, evidence: [], excerpt: [] } })), {
    message: /gone/,
  });
});

test('bench throughput: skipped tests are not work done', (t) => {
  const { tests } = report();
  const [one] = tests;
  t.truthy(one);
  if (one === undefined) return;
  const some = [one, one, { ...one, outcome: 'skipped' as const }];
  t.is(throughput({ tests: some, timings }), 2 / 50);
  t.is(throughput({ tests: [], timings }), undefined);
  t.is(throughput({ tests: some, timings: { ...timings, suitesMs: null } }), undefined);
});
