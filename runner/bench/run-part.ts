import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { Failure } from '#runner/lib/failure.ts';
import { loadReport } from '#runner/report/load-report.ts';
import type { Report } from '#runner/report/report.ts';
import type { PartContext } from '#runner/run/parts.ts';
import type { Figure } from './figure.ts';
import { figure } from './figure.ts';
import { PeakMemory } from './peak-memory.ts';

export interface RunPartOptions {
  /** Arguments of `fusegate run`, without `--out`. */
  readonly args: readonly string[];
  /** The command line's first file. */
  readonly program: string;
  readonly out: string;
}

/** For one suite on a slow machine. Milliseconds. */
const LIMIT_MS = 15 * 60_000;

/** For a run to end in order once it was asked to. Milliseconds. */
const GRACE_MS = 30_000;

/** A run of one suite as a user starts it, watched from outside. @throws Failure E_BENCH_RUN (infra). */
export async function measureRun(
  options: RunPartOptions,
  { signal, emit }: PartContext,
): Promise<readonly Figure[]> {
  const out = join(options.out, 'run');
  const log = join(options.out, 'run.log');
  await rm(join(out, 'report.json'), { force: true });
  emit({ type: 'note', text: `a run of its own for memory and throughput (log: ${log})` });
  const peak = await runAndWatch({ ...options, args: [...options.args, '--out', out] }, log, signal);
  const report = await loadReport(out).catch((cause: unknown) => {
    throw runFailure('wrote no report', log, cause);
  });
  const rate = throughput(report);
  if (rate === undefined) throw runFailure('ran no test', log);
  const most = { bound: 'at most', value: 300 } as const;
  return [
    figure('run.memory', 'the runner: resident peak (VmHWM)', 'MB', [peak.ofRootMb], most),
    figure('run.memory.all', 'runner, AVA and test processes at once (PSS)', 'MB', [peak.ofAllMb]),
    figure('run.throughput', 'tests a second, once the suites run', 'tests/s', [rate]),
    figure('run.total', 'this run from start to end', 's', [report.timings.totalMs / 1000]),
  ];
}

/** `undefined` when nothing ran. */
export function throughput({ tests, timings }: Pick<Report, 'tests' | 'timings'>): number | undefined {
  const ran = tests.filter(({ outcome }) => outcome !== 'skipped' && outcome !== 'not-run').length;
  if (ran === 0 || timings.suitesMs === null || timings.suitesMs <= 0) return undefined;
  return ran / (timings.suitesMs / 1000);
}

async function runAndWatch(
  { program, args }: RunPartOptions,
  log: string,
  signal: AbortSignal,
): Promise<PeakMemory> {
  const output = await open(log, 'w');
  try {
    // setpriv: the run ends in order when this process dies, however it dies.
    const child = spawn('setpriv', ['--pdeathsig', 'TERM', process.execPath, program, 'run', ...args], {
      stdio: ['ignore', output.fd, output.fd],
      // A group of its own: Ctrl-C on the terminal is passed on once, by us.
      detached: true,
    });
    const ended = once(child, 'exit');
    await once(child, 'spawn');
    using peak = new PeakMemory(child.pid ?? 0);
    let lastResort: NodeJS.Timeout | undefined;
    const end = (): void => {
      child.kill('SIGTERM');
      // What it leaves then, its own reaper removes.
      lastResort = setTimeout(() => void child.kill('SIGKILL'), GRACE_MS);
    };
    const limit = AbortSignal.any([signal, AbortSignal.timeout(LIMIT_MS)]);
    limit.addEventListener('abort', end, { once: true });
    if (limit.aborted) end();
    await ended;
    clearTimeout(lastResort);
    limit.removeEventListener('abort', end);
    signal.throwIfAborted();
    return peak;
  } finally {
    await output.close();
  }
}

function runFailure(what: string, log: string, cause?: unknown): Failure {
  return new Failure('E_BENCH_RUN', 'infra', `the run that was to be measured ${what}`, {
    hint: `what it said is in ${log}`,
    evidence: [{ label: 'log of the run', path: log }],
    cause,
  });
}
