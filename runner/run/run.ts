import type { KernelImage } from '#kernel/kernel-image.ts';
import type { Profile } from '#kernel/profile.ts';
import type { Config } from '#runner/config/config.ts';
import type { EventSink } from '#runner/lib/events.ts';
import { EventBus } from '#runner/lib/events.ts';
import type { ExitCode } from '#runner/lib/failure.ts';
import { Failure } from '#runner/lib/failure.ts';
import { ReportBuilder } from '#runner/report/builder.ts';
import { rerunCommand } from '#runner/report/rerun.ts';
import type { Report } from '#runner/report/report.ts';
import { exitCodeFor } from '#runner/verdict/classify.ts';
import { asFailure } from './as-failure.ts';
import type { RunParts } from './parts.ts';
import { prepareAll, prepareKernel } from './prepare.ts';
import { openRunDirectory, writeReport } from './run-directory.ts';
import { runSuites } from './run-suites.ts';
import { refuseEmptySelection } from './suites.ts';

export interface RunOptions {
  readonly config: Config;
  readonly profile: Profile;
  readonly parts: RunParts;
  readonly projectDir: string;
  readonly sinks: readonly EventSink[];
  /** Aborted with a Failure that says why. */
  readonly signal: AbortSignal;
}

export interface RunResult {
  readonly report: Report;
  readonly reportPath: string;
  readonly exitCode: ExitCode;
  readonly kernel: KernelImage | undefined;
}

/** From a config to a report, which is written however the run ends. @throws what is a bug of ours. */
export function run(options: RunOptions): Promise<RunResult> {
  return reported(options, async (builder, bus) => {
    const { config, profile, parts, signal } = options;
    const context = { emit: bus.emit, signal };
    await refuseEmptySelection(options.projectDir, config.selection, signal);
    const prepared = await prepareAll(config, profile, parts, context);
    builder.kernel(prepared.kernel);
    builder.accelerator(prepared.accelerator);
    await runSuites({ ...options, prepared, context });
    return prepared.kernel;
  });
}

/** The kernel stages only. */
export function build(options: RunOptions): Promise<RunResult> {
  return reported(options, async (builder, bus) => {
    const { config, profile, parts, signal } = options;
    const kernel = await prepareKernel(config, profile, parts, { emit: bus.emit, signal });
    builder.kernel(kernel);
    return kernel;
  });
}

/** Runs `work` with a report around it. @throws what is a bug of ours. */
export async function reported(
  { config, sinks, signal }: RunOptions,
  work: (builder: ReportBuilder, bus: EventBus) => Promise<KernelImage>,
): Promise<RunResult> {
  const bus = new EventBus();
  const builder = new ReportBuilder(config.profile, rerunCommand(config));
  bus.subscribe(builder.sink);
  for (const sink of sinks) bus.subscribe(sink);
  await openRunDirectory(config.out, config.latest);
  bus.emit({ type: 'run-started', profile: config.profile, series: config.series, out: config.out });
  let kernel: KernelImage | undefined;
  let failure: Failure | null = null;
  try {
    kernel = await work(builder, bus);
    if (bus.sinkErrors.length > 0) throw bus.sinkErrors[0];
  } catch (error) {
    failure = await asFailure(error, signal);
    if (failure.code === 'E_BUG') {
      await writeReport(config.out, builder.build(failure));
      throw error;
    }
  }
  const report = builder.build(failure);
  const reportPath = await writeReport(config.out, report).catch((error: unknown) => {
    throw failure === null ? error : notWritten(error, failure);
  });
  return { report, reportPath, exitCode: exitCodeFor(report.verdict, report.failure), kernel };
}

/** Why the run ended must not be lost with its report. */
function notWritten(error: unknown, ended: Failure): unknown {
  if (!(error instanceof Failure)) return error;
  return new Failure(error.code, error.blame, error.message, {
    hint: `the run had ended with ${ended.code}: ${ended.message}`,
    cause: error,
  });
}
