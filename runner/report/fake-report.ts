import type { Report, ReportTest } from './report.ts';

/** A report with one of everything, for tests of what is made of reports. */
export function fakeReport(overrides: Partial<Report> = {}): Report {
  return {
    schema: 1,
    verdict: 'fail',
    kernels: [
      {
        id: 'mainline-6.12/base',
        profile: 'mainline-6.12',
        release: '6.12.117',
        role: 'base',
        series: null,
        patch: null,
        imageSha256: 'ab',
        accelerator: 'tcg',
      },
    ],
    tests: [
      fakeTest('reads', { outcome: 'passed', durationMs: 1234 }),
      fakeTest('it\'s *wrong* <&> "quoted" #1', {
        outcome: 'failed',
        message: 'not equal\n: :error::x',
        evidence: [{ label: 'console', path: '/out/tests/x/console.log' }],
      }),
      fakeTest('panics', { outcome: 'crashed', message: 'the kernel panicked' }),
      fakeTest('needs more', { outcome: 'skipped', message: 'no ids' }),
      fakeTest('never ran', { outcome: 'not-run', message: 'no machine' }),
      fakeTest('fails as known', { outcome: 'known-failure', message: 'broken upstream' }),
    ],
    faults: [
      {
        kernel: 'mainline-6.12/base',
        kind: 'panic',
        title: 'Kernel panic',
        fingerprint: 'panic x',
        test: 'area/file: panics',
        evidence: [],
      },
      {
        kernel: 'mainline-6.12/base',
        kind: 'warning',
        title: 'WARNING at boot, 100 %',
        fingerprint: 'warning y',
        test: null,
        evidence: [],
      },
    ],
    timings: {
      sourceMs: 1,
      applyMs: 1,
      configMs: 1,
      buildMs: 331_000,
      imageMs: 400,
      bootMs: 4200,
      deployMs: 1500,
      suitesMs: null,
      totalMs: 400_000,
    },
    counts: { passed: 1, failed: 2, skipped: 2, knownFailures: 1 },
    gate: null,
    failure: null,
    startedAt: '2026-01-01T00:00:00.000Z',
    profile: 'mainline-6.12',
    rerun: 'npx fusegate run --profile mainline-6.12',
    notes: [],
    ...overrides,
  };
}

export function fakeTest(title: string, overrides: Partial<ReportTest>): ReportTest {
  return {
    id: `area/file: ${title}`,
    area: 'area',
    title,
    kernel: 'mainline-6.12/base',
    outcome: 'passed',
    durationMs: 0,
    message: null,
    evidence: [],
    ...overrides,
  };
}
