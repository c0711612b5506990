import test from 'ava';
import type { Behaviours, Row } from './behaviours.ts';
import { joinCoverage, withoutStaleReasons } from './join-coverage.ts';
import { withRun } from './recorded-runs.ts';
import { renderCoverage } from './render-coverage.ts';
import { fakeReport, fakeTest } from '#runner/report/fake-report.ts';
import { rowMarks } from './row-marks.ts';

const NOTHING = { profiles: {} };
const marks: readonly (readonly [string, readonly string[]])[] = [
  ['a/b: reads (A1)', ['A1']],
  ['a/b: reads (A1, K03)', ['A1', 'K03']],
  ['a/b: refuses (B2-B4, B25)', ['B2', 'B3', 'B4', 'B25']],
  ['a/b: repeats (K09-K11)', ['K09', 'K10', 'K11']],
  ['a/b: (A1) is not at the end', []],
  ['a/b: says so (twice)', []],
  ['a/b: no range across areas (A1-B2)', ['A1-B2']],
];
for (const [title, expected] of marks) {
  test(`coverage: marks of "${title}"`, (t) => {
    t.deepEqual(rowMarks(title), expected);
  });
}

function rows(...list: readonly Row[]): Behaviours {
  return { areas: { A: 'Reading' }, rows: [...list] };
}

test('coverage: tests are found by mark, by id and by the beginning of an id', (t) => {
  const behaviours = rows(
    { id: 'A1', what: 'reads' },
    { id: 'A2', what: 'writes', tests: ['a/b: writes'] },
    { id: 'A3', what: 'both', tests: ['a/c: *'] },
  );
  const ids = ['a/b: reads (A1)', 'a/b: writes', 'a/c: one', 'a/c: two'];
  const { rows: found, problems } = joinCoverage(behaviours, ids, NOTHING);
  t.deepEqual(
    found.map(({ tests }) => tests),
    [['a/b: reads (A1)'], ['a/b: writes'], ['a/c: one', 'a/c: two']],
  );
  t.deepEqual(problems, []);
});

test('coverage: what contradicts itself is told', (t) => {
  const behaviours = rows(
    { id: 'A1', what: 'reads', reason: 'later' },
    { id: 'A2', what: 'writes' },
    { id: 'A2', what: 'writes again', reason: 'never' },
    { id: 'A3', what: 'maps', tests: ['a/b: gone', 'a/x: *'], reason: 'never' },
  );
  const joined = joinCoverage(behaviours, ['a/b: reads (A1, A9)'], NOTHING);
  t.deepEqual(joined.problems, [
    'A2: there are two rows of this id',
    'A9: no such row, named by "a/b: reads (A1, A9)"',
    'A3: no such test: "a/b: gone"',
    'A3: no such test: "a/x: *"',
    'A1: has a test and a reason why it has none: `npx fusegate coverage` removes the reason',
    'A2: no test covers it, and no reason is given',
  ]);
  t.deepEqual(withoutStaleReasons(behaviours, joined).rows[0], { id: 'A1', what: 'reads' });
});

test('coverage: a profile counts where a test was not skipped', (t) => {
  const report = fakeReport({
    tests: [
      fakeTest('reads (A1)', { outcome: 'passed' }),
      fakeTest('writes (A2)', { outcome: 'skipped' }),
      fakeTest('maps (A3)', { outcome: 'known-failure' }),
    ],
  });
  const recorded = withRun(NOTHING, report);
  const behaviours = rows(...['A1', 'A2', 'A3'].map((id) => ({ id, what: 'x' })));
  const ids = report.tests.map(({ id }) => id);
  t.deepEqual(
    joinCoverage(behaviours, ids, recorded).rows.map(({ profiles }) => profiles),
    [[report.profile], [], [report.profile]],
  );
});

test('coverage: no title gets out of its cell', (t) => {
  const behaviours = rows({ id: 'A1', what: 'O_RDWR|O_CREAT <b>' });
  const page = renderCoverage(
    behaviours,
    joinCoverage(behaviours, ['a/b: `x` | [y](z) (A1)'], NOTHING),
    NOTHING,
  );
  const row = page.split('\n').find((line) => line.startsWith('| A1'));
  t.is(row, String.raw`| A1 | O\_RDWR\|O\_CREAT \<b\> | a/b: \`x\` \| \[y\](z) (A1) |  |`);
});
