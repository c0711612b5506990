import test from 'ava';
import type { ReportTest } from '#runner/report/report.ts';
import { otherOutcomes } from './run-part.ts';

test('bench: tests whose outcome is not the same in both runs are found, also those that one has not', (t) => {
  const of = (outcomes: Readonly<Record<string, ReportTest['outcome']>>) => {
    return { tests: Object.entries(outcomes).map(([id, outcome]) => ({ id, outcome }) as ReportTest) };
  };
  const one = of({ same: 'passed', other: 'passed', gone: 'skipped' });
  const two = of({ new: 'passed', other: 'failed', same: 'passed' });
  t.deepEqual(otherOutcomes(one, two).toSorted(), ['gone', 'new', 'other']);
  t.deepEqual(otherOutcomes(one, one), []);
});
