import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { loadProfile } from '#kernel/profile.ts';
import { fakeTest } from '#runner/report/fake-report.ts';
import { reportSchema, type Report } from '#runner/report/report.ts';
import { deviationFrom, isNone, renderDeviation } from './expected-failures.ts';

/** The areas about stacking and all that failed, of a run of V11. */
const path = join(import.meta.dirname, 'testdata/report-v11-6.1.json');
const recorded = reportSchema.parse(JSON.parse(await readFile(path, 'utf8')));
const { expectations } = await loadProfile('v11-6.1');

function changed(id: string, change: Partial<Report['tests'][number]>): Report {
  return {
    ...recorded,
    tests: recorded.tests.map((each) => (each.id === id ? { ...each, ...change } : each)),
  };
}

test('expected: the run of V11 failed in exactly the tests about depth', (t) => {
  const deviation = deviationFrom(expectations, recorded);
  t.deepEqual(deviation, { unexpected: [], missing: [], unexplained: [], other: [] });
  t.true(isNone(deviation));
  t.is(recorded.verdict, 'fail', 'the run itself is not a pass');
  t.true(expectations.every(({ test: id }) => id.startsWith('stacking-')));
  t.regex(renderDeviation(deviation, expectations), /\nfailed in exactly the 8 tests expected\n$/);
});

test('expected: a test that stopped failing, was skipped or not selected is told', (t) => {
  const [first] = expectations;
  const id = first?.test ?? '';
  for (const outcome of ['passed', 'skipped', 'known-failure'] as const) {
    const deviation = deviationFrom(expectations, changed(id, { outcome }));
    t.deepEqual(deviation.missing, [{ test: id, outcome }]);
    t.false(isNone(deviation));
  }
  const without = { ...recorded, tests: recorded.tests.filter((each) => each.id !== id) };
  t.deepEqual(deviationFrom(expectations, without).missing, [{ test: id, outcome: 'not selected' }]);
});

test('expected: another failure, another reason, a fault and an open question are told', (t) => {
  const extra = fakeTest('breaks', { outcome: 'crashed' });
  const more = { ...recorded, tests: [...recorded.tests, extra, fakeTest('waits', { outcome: 'not-run' })] };
  const deviation = deviationFrom(expectations, more);
  t.deepEqual(deviation.unexpected, [extra.id]);
  t.deepEqual(deviation.other, ['not run: area/file: waits']);
  const id = expectations[0]?.test ?? '';
  const unexplained = deviationFrom(expectations, changed(id, { message: 'out of memory' })).unexplained;
  t.deepEqual(unexplained, [{ test: id, says: expectations[0]?.says[0] ?? '' }]);
  const fault = { kernel: null, kind: 'oops', title: 'NULL', fingerprint: 'x', test: null, evidence: [] };
  const faulty = deviationFrom(expectations, { ...recorded, faults: [fault] });
  t.deepEqual(faulty.other, ['kernel fault (oops): NULL']);
  t.regex(renderDeviation(faulty, expectations), /\nnot as expected\n$/);
});

test('expected: the words say lower depth, total and maximum', (t) => {
  for (const { says } of expectations) {
    t.true(says.every((words) => words.endsWith(': lower depth 2 + 1 = 3 exceeds the maximum 2')));
    t.not(says.length, 0);
  }
});
