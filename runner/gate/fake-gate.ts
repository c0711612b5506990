import { fakeReport } from '#runner/report/fake-report.ts';
import type { Report } from '#runner/report/report.ts';
import { decideGate } from './decide.ts';
import { countVerdicts } from './gate-report.ts';
import type { GatePatch, GateResult, GateVerdict } from './gate-schema.ts';

/** The report of a gate with one of everything, for tests of what is made of it. */
export function fakeGateReport(overrides: Partial<GateResult> = {}): Report {
  const gate: GateResult = {
    series: {
      name: 'v13',
      title: 'fuse: a series with a title that is rather longer than most titles are',
      count: 4,
    },
    against: null,
    base: 'linux-source-6.12',
    ref: null,
    patches: [
      fakePatch(1, {
        sameAs: 0,
        advice: [{ source: 'checkpatch', text: 'WARNING:LONG_LINE: line length of 120' }],
      }),
      fakePatch(2, {
        warnings: ['fs/fuse/file.c:12: unused variable x [-Wunused-variable]'],
        lostSymbols: ['FUSE_DAX'],
      }),
      fakePatch(3, {
        state: 'not-built',
        message: 'fs/fuse/file.c:12: implicit declaration of function no_such_function',
      }),
      fakePatch(4),
    ],
    verdicts: [
      fakeVerdict('area/file: reads', 'passed'),
      fakeVerdict('area/file: breaks', 'regressed', {
        patch: { first: 2, last: 2 },
        odds: 0.0032,
        patched: { passes: 0, runs: 8 },
        message: 'Difference:\n\u001b[31m- 5\n+ 5003\n::error::boo',
      }),
      fakeVerdict('area/file: one of two', 'regressed', {
        patch: { first: 3, last: 4 },
        odds: 0.004,
        mendedBy: null,
      }),
      fakeVerdict('area/file: in doubt', 'regressed', {
        patch: { first: 4, last: 4 },
        odds: 0.5,
        confirmed: false,
      }),
      fakeVerdict('area/file: mended', 'fixed', { patch: { first: 4, last: 4 }, odds: 0.003 }),
      fakeVerdict('area/file: old', 'pre-existing'),
      fakeVerdict('area/file: listed', 'known-failure'),
      fakeVerdict('area/file: now and then', 'flaky'),
      fakeVerdict('area/file: lost', 'infra'),
      fakeVerdict('area/file: without', 'skipped'),
      fakeVerdict('boot', 'passed'),
    ],
    steps: [
      { patch: 0, wanted: 'all', times: 1, why: 'everything on the base', cached: true, durationMs: 3 },
      {
        patch: 2,
        wanted: ['area/file: breaks'],
        times: 6,
        why: 'is it there every time?',
        cached: false,
        durationMs: 60_000,
      },
    ],
    outOfTime: false,
    notes: ['the patches came in the order 2, 1, 3, 4; their numbers count'],
    ...overrides,
  };
  return fakeReport({ gate, verdict: decideGate(gate), counts: countVerdicts(gate.verdicts) });
}

export function fakePatch(index: number, overrides: Partial<GatePatch> = {}): GatePatch {
  return {
    ...{ index, subject: `fuse: patch ${index}`, state: 'built', sameAs: null, message: null },
    ...{ evidence: [], warnings: [], lostSymbols: [], advice: [] },
    ...overrides,
  };
}

export function fakeVerdict(
  id: string,
  kind: GateVerdict['kind'],
  overrides: Partial<GateVerdict> = {},
): GateVerdict {
  return {
    ...{
      id,
      test: id,
      kind,
      patch: null,
      mendedBy: null,
      odds: null,
      confirmed: true,
      fault: null,
      message: null,
    },
    ...{ base: { passes: 7, runs: 7 }, patched: { passes: 1, runs: 1 }, evidence: [] },
    runs: [{ patch: 0, passes: 7, runs: 7 }],
    ...overrides,
  };
}
