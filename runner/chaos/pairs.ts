import { isDeepStrictEqual } from 'node:util';
import { comparable } from '#runner/report/comparable.ts';
import { loadReport } from '#runner/report/load-report.ts';
import type { Report } from '#runner/report/report.ts';
import type { Field } from './faults.ts';
import { makeProject, suiteText } from './fixture.ts';
import { PANIC } from './in-guest.ts';
import { startProgram } from './program.ts';
import type { Tried } from './render.ts';
import { trial, type Seen } from './trial.ts';
import { runFixture } from './try-fault.ts';

/** Trials of two runs each. */
export const PAIRS: readonly {
  readonly name: string;
  readonly expected: string;
  readonly run: (field: Field, suites: readonly string[], label: string) => Promise<Seen>;
}[] = [
  {
    name: 'two runs at once on one cache without a saved machine',
    expected: 'both pass, with the same tests in the same order',
    run: twoAtOnce,
  },
  {
    name: '`--jobs 1` and `--jobs 2`, four files of which one panics',
    expected: 'the same order and content',
    run: jobsOnFixture,
  },
  {
    name: '`--jobs 1` and `--jobs 2`, an area of the suites',
    expected: 'the same order and content',
    run: jobsOnArea,
  },
];

/** Never rejects. */
export async function tryPair(
  pair: (typeof PAIRS)[number],
  field: Field,
  suites: readonly string[],
): Promise<Tried> {
  return trial(pair, field, async (label) => pair.run(field, suites, label));
}

async function twoAtOnce(field: Field, suites: readonly string[], label: string): Promise<Seen> {
  await field.arena.forgetStates();
  const ended = await Promise.all(
    ['one', 'other'].map((name) => programRun(field, name, suites, '1', label)),
  );
  const wrong = ended.filter(({ exitCode }) => exitCode !== 0).map(({ output }) => output.slice(-2000));
  return {
    seen: ended.map(told).join(' and '),
    wrong: [...wrong, ...differences(ended.map(({ report }) => report))],
  };
}

async function jobsOnFixture(field: Field): Promise<Seen> {
  await using _project = await makeProject(field.arena.path('fixture'), {
    alpha: suiteText(3, 1),
    beta: suiteText(5, 3, PANIC),
    gamma: suiteText(2, 2, 'exit 7'),
    omega: suiteText(4, 4, 'sleep 1'),
  });
  const ends = [];
  for (const jobs of ['1', '2']) {
    ends.push(await runFixture(field, field.arena.path('fixture'), { options: { jobs } }));
  }
  const wrong = ends
    .filter(({ exitCode }) => exitCode !== 1)
    .map(({ exitCode }) => `exit ${exitCode} instead of 1`);
  return {
    seen: ends.map(({ outcomes, exitCode }) => `${outcomes}; exit ${exitCode}`).join(' and '),
    wrong: [...wrong, ...differences(ends.map(({ report }) => report))],
  };
}

async function jobsOnArea(field: Field, _suites: readonly string[], label: string): Promise<Seen> {
  const ended = [];
  for (const jobs of ['1', '2'])
    ended.push(await programRun(field, `jobs-${jobs}`, ['io-modes'], jobs, label));
  return { seen: ended.map(told).join(' and '), wrong: differences(ended.map(({ report }) => report)) };
}

interface Ended {
  readonly exitCode: number | null;
  readonly output: string;
  readonly report: Report;
}

async function programRun(
  { arena, profile }: Field,
  name: string,
  suites: readonly string[],
  jobs: string,
  label: string,
): Promise<Ended> {
  const out = arena.path(name);
  const args = ['run', '--profile', profile, '--accel', 'tcg', '--jobs', jobs, '--out', out];
  const program = startProgram([...args, ...suites.flatMap((suite) => ['--suite', suite])], label);
  const exitCode = await program.ended;
  return { exitCode, output: program.output(), report: await loadReport(out) };
}

function told({ exitCode, report }: Ended): string {
  const { passed, failed, skipped } = report.counts;
  return `${passed} passed, ${failed} failed, ${skipped} skipped; exit ${String(exitCode)}`;
}

function differences([one, other]: readonly Report[]): readonly string[] {
  if (one === undefined || other === undefined) return ['a run is missing'];
  const [a, b] = [comparable(one), comparable(other)];
  if (isDeepStrictEqual(a, b)) return [];
  const at = a.tests.findIndex((test, nth) => !isDeepStrictEqual(test, b.tests[nth]));
  const parts =
    at < 0
      ? [
          { ...a, tests: [] },
          { ...b, tests: [] },
        ]
      : [a.tests[at], b.tests[at]];
  return [`they differ: ${parts.map((part) => JSON.stringify(part)).join(' and ')}`];
}
