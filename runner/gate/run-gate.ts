import { join } from 'node:path';
import { loadSeries } from '#kernel/series/load-series.ts';
import type { KernelImage } from '#kernel/kernel-image.ts';
import { seriesBase } from '#kernel/source/series-base.ts';
import type { Config } from '#runner/config/config.ts';
import { EventBus, type Stage } from '#runner/lib/events.ts';
import { Failure, type ExitCode } from '#runner/lib/failure.ts';
import { rerunCommand } from '#runner/report/rerun.ts';
import { asFailure } from '#runner/run/as-failure.ts';
import { openRunDirectory, writeReport } from '#runner/run/run-directory.ts';
import type { RunOptions, RunResult } from '#runner/run/run.ts';
import { exitCodeFor } from '#runner/verdict/classify.ts';
import { loadKnownFailures } from '#runner/verdict/known-failures.ts';
import { gateExitCode } from './decide.ts';
import { gate, type GateContext, type GateOutcome, type GateTools } from './gate.ts';
import { gateReport } from './gate-report.ts';

export interface GateWishes {
  /** An earlier version of the series: a path as for --series, or a git range. */
  readonly against?: string | undefined;
  /** Such as `30m`. */
  readonly deadline?: string | undefined;
  readonly useCache: boolean;
  readonly tools: GateTools;
}

export interface GateRun extends RunResult {
  /** `undefined`: the gate did not come to its verdicts. */
  readonly outcome: GateOutcome | undefined;
}

/** From a config to the gate's report, which is written however the gate ends. @throws what is a bug of ours. */
export async function runGate(options: RunOptions, wishes: GateWishes): Promise<GateRun> {
  const { config, sinks, signal } = options;
  const spec = seriesOf(config);
  const startedAt = new Date();
  const clock = performance.now();
  const deadline = wishes.deadline === undefined ? undefined : clock + parseTime(wishes.deadline);
  const bus = new EventBus();
  const notes: string[] = [];
  const stages = new Map<Stage, number>();
  bus.subscribe((event) => {
    if (event.type === 'note') notes.push(event.text);
    if (event.type !== 'stage-finished' && event.type !== 'stage-failed') return;
    stages.set(event.stage, (stages.get(event.stage) ?? 0) + event.durationMs);
  });
  for (const sink of sinks) bus.subscribe(sink);
  await openRunDirectory(config.out, config.latest);
  bus.emit({ type: 'run-started', profile: config.profile, series: config.series, out: config.out });
  let outcome: GateOutcome | undefined;
  let failure: Failure | null = null;
  try {
    outcome = await prepareAndGate(options, spec, { ...wishes, deadline }, { emit: bus.emit, signal });
  } catch (error) {
    failure = await asFailure(error, signal);
    if (failure.code === 'E_BUG') throw error;
  }
  const report = gateReport({
    ...{ profile: config.profile, rerun: rerunCommand(config), startedAt, notes, stages, outcome, failure },
    totalMs: performance.now() - clock,
  });
  const reportPath = await writeReport(config.out, report);
  const exitCode: ExitCode =
    outcome === undefined ? exitCodeFor(report.verdict, report.failure) : gateExitCode(outcome.gate);
  return { report, reportPath, exitCode, kernel: tipOf(outcome), outcome };
}

async function prepareAndGate(
  { config, profile, parts, projectDir, signal }: RunOptions,
  spec: string,
  {
    against,
    useCache,
    tools,
    deadline,
  }: Omit<GateWishes, 'deadline'> & { readonly deadline: number | undefined },
  context: GateContext,
): Promise<GateOutcome> {
  const loaded = await loadSeries(spec, config.tree ?? undefined, signal);
  const { series } = loaded;
  const tree = config.tree ?? undefined;
  const base = config.base ?? undefined;
  const treeLabel = tree ?? profile.source.debianPackage ?? profile.name;
  const found = await seriesBase({ series, tree, treeLabel, wanted: base ?? loaded.base, signal });
  const older = against === undefined ? undefined : await loadOlder(against);
  return gate(
    {
      ...{ config, profile, parts, projectDir, useCache, deadline, series, tools },
      notes: [...(series.notes ?? []), ...found.notes, ...(older?.notes ?? [])],
      older,
      ref: found.ref,
      base: found.ref === undefined ? treeLabel : `${treeLabel} at ${found.ref.slice(0, 40)}`,
      known: await loadKnownFailures(join(projectDir, 'suites', 'known-failures.json')),
    },
    context,
  );

  async function loadOlder(spec: string) {
    const of = await loadSeries(spec, tree, signal);
    const { name, notes = [] } = of.series;
    const where = await seriesBase({ series: of.series, tree, treeLabel, wanted: base ?? of.base, signal });
    if (of.series.fingerprint === series.fingerprint && where.ref === found.ref) {
      throw new Failure('E_USAGE', 'user', `--against ${spec} is the series itself`, {
        hint: 'name the version that came before',
      });
    }
    const said = [...notes, ...where.notes].map((note) => `${name}: ${note}`);
    return { series: of.series, spec, ref: where.ref, notes: said };
  }
}

/** @throws Failure E_USAGE (user) */
function seriesOf({ series }: Config): string {
  if (series !== null) return series;
  throw new Failure('E_USAGE', 'user', 'a gate needs a series', {
    hint: 'npx fusegate gate --series PATH; an mbox, a patch file, a directory, or with --tree a git range A..B',
  });
}

function tipOf(outcome: GateOutcome | undefined): KernelImage | undefined {
  return outcome?.stops.at(-1)?.kernel;
}

const UNITS: Readonly<Record<string, number>> = { s: 1000, m: 60_000, h: 3_600_000 };

/** `90s`, `30m`, `1.5h` in milliseconds. @throws Failure E_USAGE (user). */
export function parseTime(text: string): number {
  const match = /^(\d+(?:\.\d+)?)([smh])$/.exec(text.trim());
  const ms = match === null ? Number.NaN : Number(match[1]) * (UNITS[match[2] ?? ''] ?? Number.NaN);
  if (ms > 0) return ms;
  throw new Failure(
    'E_USAGE',
    'user',
    `--deadline must be a time such as 30m or 90s, not ${JSON.stringify(text)}`,
  );
}
