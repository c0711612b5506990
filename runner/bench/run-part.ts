import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { Failure } from '#runner/lib/failure.ts';
import { loadReport } from '#runner/report/load-report.ts';
import type { Report } from '#runner/report/report.ts';
import type { PartContext } from '#runner/run/parts.ts';
import type { Figure } from './figure.ts';
import { atLeast, atMost, figure } from './figure.ts';
import type { PeakMemory } from './peak-memory.ts';
import { watchProgram } from './watch-program.ts';

export interface RunPartOptions {
  /** Arguments of `fusegate run`, without `--out`. */
  readonly args: readonly string[];
  /** The command line's first file. */
  readonly program: string;
  readonly out: string;
}

/** On a slow machine. Milliseconds. */
const LIMIT_MS = 30 * 60_000;

/**
 * A run of some suites as a user starts it, watched from outside: on one machine, on two, and on machines that all
 * boot, whose outcomes have to be the same. @throws Failure E_BENCH_RUN (infra).
 */
export async function measureRun(options: RunPartOptions, context: PartContext): Promise<readonly Figure[]> {
  const one = await watchedRun(options, { name: 'one', args: ['--jobs', '1'] }, context);
  const two = await watchedRun(options, { name: 'two', args: ['--jobs', '2'] }, context);
  const cold = await watchedRun(options, { name: 'cold', args: ['--jobs', '2', '--cold'] }, context);
  const both = otherOutcomes(two.report, cold.report);
  return [
    figure(
      'run.memory',
      'the runner: resident peak (VmHWM)',
      'MB',
      [one.peak.ofRootMb, two.peak.ofRootMb],
      atMost(250),
    ),
    figure('run.memory.all', 'runner, AVA and test processes at once (PSS), two machines', 'MB', [
      two.peak.ofAllMb,
    ]),
    figure('run.throughput', 'tests a second, once the suites run, one machine', 'tests/s', [one.rate]),
    figure('run.throughput.two', 'the same with two machines', 'tests/s', [two.rate]),
    figure('run.parallel', 'two machines / one', 'times', [two.rate / one.rate], atLeast(1.6)),
    figure('run.busy', 'processors at work on average, one machine', 'processors', [one.busy]),
    figure('run.busy.two', 'the same with two machines', 'processors', [two.busy]),
    figure('run.total', 'the run on two machines from start to end', 's', [
      two.report.timings.totalMs / 1000,
    ]),
    figure('run.cold', 'the same with --cold', 's', [cold.report.timings.totalMs / 1000]),
    figure(
      'run.differ',
      'tests with another outcome when every machine boots',
      'tests',
      [both.length],
      atMost(0),
    ),
  ];
}

interface WatchedRun {
  readonly peak: PeakMemory;
  readonly report: Report;
  readonly rate: number;
  readonly busy: number;
}

async function watchedRun(
  options: RunPartOptions,
  { name, args }: { readonly name: string; readonly args: readonly string[] },
  { signal, emit }: PartContext,
): Promise<WatchedRun> {
  const out = join(options.out, `run-${name}`);
  const log = join(options.out, `run-${name}.log`);
  await rm(join(out, 'report.json'), { force: true });
  emit({ type: 'note', text: `a run of its own: ${args.join(' ')} (log: ${log})` });
  const { peak, busy } = await watchProgram(
    {
      program: options.program,
      args: ['run', ...options.args, ...args, '--out', out],
      log,
      limitMs: LIMIT_MS,
    },
    signal,
  );
  const report = await loadReport(out).catch((cause: unknown) => {
    throw runFailure('wrote no report', log, cause);
  });
  const rate = throughput(report);
  if (rate === undefined) throw runFailure('ran no test', log);
  return { peak, report, rate, busy };
}

/** Ids of tests that one run has and the other has not, or not with the same outcome. Pure. */
export function otherOutcomes(a: Pick<Report, 'tests'>, b: Pick<Report, 'tests'>): readonly string[] {
  const outcomes = ({ tests }: Pick<Report, 'tests'>): Map<string, string> =>
    new Map(tests.map(({ id, outcome }) => [id, outcome]));
  const [left, right] = [outcomes(a), outcomes(b)];
  return [...new Set([...left.keys(), ...right.keys()])].filter((id) => left.get(id) !== right.get(id));
}

/** `undefined` when nothing ran. */
export function throughput({ tests, timings }: Pick<Report, 'tests' | 'timings'>): number | undefined {
  const ran = tests.filter(({ outcome }) => outcome !== 'skipped' && outcome !== 'not-run').length;
  if (ran === 0 || timings.suitesMs === null || timings.suitesMs <= 0) return undefined;
  return ran / (timings.suitesMs / 1000);
}

function runFailure(what: string, log: string, cause?: unknown): Failure {
  return new Failure('E_BENCH_RUN', 'infra', `the run that was to be measured ${what}`, {
    hint: `what it said is in ${log}`,
    evidence: [{ label: 'log of the run', path: log }],
    cause,
  });
}
