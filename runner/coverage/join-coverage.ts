import type { Behaviours, Row } from './behaviours.ts';
import type { RecordedRuns } from './recorded-runs.ts';
import { rowMarks } from './row-marks.ts';

export interface CoveredRow {
  readonly row: Row;
  /** Ids, in the order of the suites. */
  readonly tests: readonly string[];
  /** Profiles on which at least one of them ran when it was recorded. */
  readonly profiles: readonly string[];
}

export interface Coverage {
  readonly rows: readonly CoveredRow[];
  /** What is wrong with the data or the titles, one sentence each. */
  readonly problems: readonly string[];
}

/** Which tests cover which rows. `testIds`: `area/file: title` of every test there is. Pure. */
export function joinCoverage(
  { rows }: Behaviours,
  testIds: readonly string[],
  recorded: RecordedRuns,
): Coverage {
  const marked = new Map(testIds.map((id) => [id, rowMarks(id)]));
  const covered = rows.map((row) => {
    const tests = testIds.filter(
      (id) => marked.get(id)?.includes(row.id) === true || row.tests?.some((name) => isNamed(id, name)),
    );
    return { row, tests, profiles: profilesOf(tests, recorded) };
  });
  return {
    rows: covered,
    problems: [
      ...duplicates(rows),
      ...unknownRows(marked, new Set(rows.map(({ id }) => id))),
      ...rows.flatMap((row) => withoutTests(row, testIds)),
      ...covered.flatMap(contradiction),
    ],
  };
}

function isNamed(id: string, name: string): boolean {
  return name.endsWith('*') ? id.startsWith(name.slice(0, -1)) : id === name;
}

function profilesOf(tests: readonly string[], { profiles }: RecordedRuns): readonly string[] {
  return Object.entries(profiles)
    .filter(([, { ran }]) => tests.some((id) => ran.includes(id)))
    .map(([profile]) => profile);
}

function duplicates(rows: readonly Row[]): readonly string[] {
  const ids = rows.map(({ id }) => id);
  return ids.filter((id, at) => ids.indexOf(id) !== at).map((id) => `${id}: there are two rows of this id`);
}

function unknownRows(
  marked: ReadonlyMap<string, readonly string[]>,
  known: ReadonlySet<string>,
): readonly string[] {
  return [...marked].flatMap(([id, marks]) =>
    marks.filter((mark) => !known.has(mark)).map((mark) => `${mark}: no such row, named by "${id}"`),
  );
}

function withoutTests({ id, tests = [] }: Row, testIds: readonly string[]): readonly string[] {
  return tests
    .filter((name) => !testIds.some((test) => isNamed(test, name)))
    .map((name) => `${id}: no such test: "${name}"`);
}

function contradiction({ row, tests }: CoveredRow): readonly string[] {
  if (tests.length === 0 && row.reason === undefined)
    return [`${row.id}: no test covers it, and no reason is given`];
  if (tests.length > 0 && row.reason !== undefined) {
    return [
      `${row.id}: has a test and a reason why it has none: \`npx fusegate coverage\` removes the reason`,
    ];
  }
  return [];
}

/** Reasons that tests have overtaken are taken away. Pure. */
export function withoutStaleReasons(behaviours: Behaviours, { rows }: Coverage): Behaviours {
  const covered = new Set(rows.filter(({ tests }) => tests.length > 0).map(({ row }) => row.id));
  return {
    ...behaviours,
    rows: behaviours.rows.map((row) => {
      const { reason, ...rest } = row;
      return reason !== undefined && covered.has(row.id) ? rest : row;
    }),
  };
}
