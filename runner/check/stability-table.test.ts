import test from 'ava';
import { fakeReport, fakeTest } from '#runner/report/fake-report.ts';
import { isClean, renderStability, type StabilityRun } from './stability-table.ts';

const passed = fakeReport({
  verdict: 'pass',
  tests: [fakeTest('reads', { outcome: 'passed' })],
  faults: [],
  failure: null,
});
const clean: StabilityRun = { nth: 1, profile: 'mainline-6.12', exitCode: 0, report: passed };

test('stability: a run is clean that passed and ended with 0', (t) => {
  t.true(isClean(clean));
  t.false(isClean({ ...clean, exitCode: 1 }));
  t.false(isClean({ ...clean, report: null }));
  t.false(isClean({ ...clean, report: fakeReport({ verdict: 'inconclusive' }) }));
});

test('stability: the table has a row for each run, and names what failed', (t) => {
  const failed = fakeReport({ tests: [fakeTest('writes', { outcome: 'timed-out' })], faults: [] });
  const text = renderStability([
    clean,
    { ...clean, nth: 2, exitCode: 1, report: failed },
    { ...clean, nth: 3, exitCode: undefined, report: null },
  ]);
  t.is(text.split('\n').filter((line) => /^\| \d/u.test(line)).length, 3);
  t.regex(text, /\n- timed-out: area\/file: writes\n/u);
  t.regex(text, /Run 3 of `mainline-6\.12` ended with a signal:/u);
  t.regex(text, /\n1 of 3 runs clean\n$/u);
});
