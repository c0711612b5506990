import { rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { prepareKernel, pristineSource, type KernelRequest } from '#kernel/prepare-kernel.ts';
import { loadProfile } from '#kernel/profile.ts';
import type { Config } from '#runner/config/config.ts';
import { Failure } from '#runner/lib/failure.ts';
import { projectRoot } from '#runner/lib/paths.ts';
import { loadReport } from '#runner/report/load-report.ts';
import type { Report } from '#runner/report/report.ts';
import type { PartContext } from '#runner/run/parts.ts';
import { atMost, figure, type Figure } from './figure.ts';
import { writeMarkedBase, writeMarkedSeries, type Marks } from './marked-series.ts';
import { watchProgram } from './watch-program.ts';

export interface GatePartOptions {
  readonly config: Pick<Config, 'accelerator' | 'selection' | 'out'>;
  /** The command line's first file. */
  readonly program: string;
  /** For copies of the series. */
  readonly scratch: string;
}

/** The profile with a series of eight patches. */
const GATED = { profile: 'v12-6.1', series: 'v12' } as const;

/** For a gate of all tests on a slow and busy machine. Milliseconds. */
const LIMIT_MS = 3 * 60 * 60_000;

/** One call of the program. */
export interface Timed {
  /** From its start to its end. */
  readonly seconds: number;
  readonly report: Report;
}

/**
 * The series of 2021 gated as a user does it, against a run of its tip alone. Each side has a line of its own in
 * the series, so that nobody knows its kernels, and starts from a build tree that has just built the base.
 *
 * @throws Failure E_BENCH_GATE (infra), and those of the kernel stages.
 */
export async function measureGate(
  { config, program, scratch }: GatePartOptions,
  context: PartContext,
): Promise<readonly Figure[]> {
  const { accelerator, selection, out } = config;
  const profile = await loadProfile(GATED.profile);
  const base: KernelRequest = { profile, fragments: [], role: 'base' };
  const from = join(projectRoot, 'kernel', 'series', GATED.series);
  const run = Date.now().toString(36);
  const quiet = { ...context, out, emit: (): void => undefined };
  // It may have to be built, which is not what is measured.
  await prepareKernel(base, { ...context, out });
  const pristine = await pristineSource(base, quiet);

  const tip = await marked('tip', { first: `${run}a` });
  await buildTreeAtBase('tip');
  const alone = await call('run', 'tip', tip);
  const first = await marked('first', { first: `${run}b` });
  await buildTreeAtBase('first');
  // What the base's own tests show may be known: of a gate that is new nothing is.
  const complete = await call('gate', 'complete', first, ['--no-cache']);
  const cached = await call('gate', 'cached', first);
  const second = await marked('second', { first: `${run}b`, last: `${run}c` });
  const changed = await call('gate', 'second', second);
  const third = await marked('third', { first: `${run}b`, last: `${run}d` });
  const one = await call('run', 'one-patch', third);
  return gateFigures({ alone, complete, cached, changed, one });

  function marked(name: string, marks: Marks): Promise<string> {
    return writeMarkedSeries(from, join(scratch, `series-${name}`), pristine, marks);
  }

  /** A build of the base with one line in one file leaves the tree as a warm base has it. */
  async function buildTreeAtBase(side: string): Promise<void> {
    context.emit({ type: 'note', text: `gate: the build tree goes back to the base for: ${side}` });
    const mark = `${run}${side}`;
    const series = await writeMarkedBase(join(scratch, `base-${side}.patch`), pristine, mark);
    const { bzImage } = await prepareKernel({ ...base, series, role: 'patched' }, quiet);
    await rm(dirname(bzImage), { recursive: true, force: true });
  }

  async function call(
    command: 'run' | 'gate',
    name: string,
    series: string,
    more: readonly string[] = [],
  ): Promise<Timed> {
    const log = join(out, `gate-${name}.log`);
    const results = join(out, `gate-${name}`);
    await rm(join(results, 'report.json'), { force: true });
    const args = [
      ...[command, '--profile', GATED.profile, '--series', series, '--accel', accelerator, '--out', results],
      ...selection.files.flatMap((file) => ['--suite', file]),
      ...more,
    ];
    context.emit({ type: 'note', text: `gate: ${command} of ${name} (log: ${log})` });
    const { seconds } = await watchProgram({ program, args, log, limitMs: LIMIT_MS }, context.signal);
    const report = await loadReport(results).catch((cause: unknown) => {
      throw gateFailure(`${command} of ${name} wrote no report`, log, cause);
    });
    if (report.failure !== null) throw gateFailure(`${command} of ${name}: ${report.failure.message}`, log);
    context.emit({ type: 'note', text: `gate: ${command} of ${name} took ${seconds.toFixed(1)} s` });
    return { seconds, report };
  }
}

/** The calls whose times are compared. */
export interface GateCalls {
  /** A run of the tip, from the same base as `complete`. */
  readonly alone: Timed;
  readonly complete: Timed;
  /** The same gate once more. */
  readonly cached: Timed;
  /** A gate of a version with another last patch. */
  readonly changed: Timed;
  /** A run of a version with another last patch. */
  readonly one: Timed;
}

/** What the times come to, and where that of the whole gate goes. Pure. */
export function gateFigures({ alone, complete, cached, changed, one }: GateCalls): readonly Figure[] {
  const { gate, timings } = complete.report;
  const steps = gate?.steps ?? [];
  const last = Math.max(0, ...steps.map(({ patch }) => patch));
  const stepsOf = (wanted: (patch: number) => boolean): number =>
    steps.filter(({ patch }) => wanted(patch)).reduce((sum, { durationMs }) => sum + durationMs, 0) / 1000;
  const built = [timings.sourceMs, timings.applyMs, timings.configMs, timings.buildMs];
  const both = complete.seconds / alone.seconds;
  return [
    figure('gate.tip', 'the tip alone: built and tested', 's', [alone.seconds]),
    figure('gate.complete', 'the series of eight patches gated completely', 's', [complete.seconds]),
    figure('gate.ratio', 'gated / its tip alone', 'times', [both], atMost(2.5)),
    figure('gate.builds', 'of the gate: its kernels', 's', [
      built.reduce<number>((sum, ms) => sum + (ms ?? 0), 0) / 1000,
    ]),
    figure('gate.base', 'of the gate: tests on the base', 's', [stepsOf((patch) => patch === 0)]),
    figure('gate.inside', 'of the gate: tests on the kernels inside', 's', [
      stepsOf((patch) => patch > 0 && patch < last),
    ]),
    figure('gate.end', 'of the gate: tests on the tip', 's', [stepsOf((patch) => patch === last)]),
    figure('gate.cached', 'the same gate once more', 's', [cached.seconds], atMost(10)),
    figure('gate.one', 'one patch alone: the last one changed, built and tested', 's', [one.seconds]),
    figure('gate.changed', 'a second version with another last patch, gated', 's', [changed.seconds]),
    figure(
      'gate.changed.ratio',
      'that second version / one patch',
      'times',
      [changed.seconds / one.seconds],
      atMost(1.3),
    ),
  ];
}

function gateFailure(what: string, log: string, cause?: unknown): Failure {
  return new Failure('E_BENCH_GATE', 'infra', what, {
    hint: `what it said is in ${log}`,
    evidence: [{ label: 'log of the call', path: log }],
    cause,
  });
}
