import { pruneCache } from '#kernel/cache/prune.ts';
import { loadProfile, type Profile } from '#kernel/profile.ts';
import { pruneRootfs } from '#rootfs/image/prune-rootfs.ts';
import type { Config, Options } from '#runner/config/config.ts';
import { ALL_PROFILES } from '#runner/config/config.ts';
import { pruneVerdicts } from '#runner/gate/prune-verdicts.ts';
import { projectRoot } from '#runner/lib/paths.ts';
import { guardRun, sweepDeadRuns } from '#runner/lib/reaper.ts';
import type { RunOptions, RunResult } from '#runner/run/run.ts';
import { listenForInterrupt } from './interrupt.ts';
import { configOf } from './options.ts';
import { openOutput, type Output } from './output.ts';
import { realParts } from './real-parts.ts';
import { runAll } from './run-all.ts';

type Work = (run: RunOptions) => Promise<RunResult>;

/** What every command that does work has around it: config, signals, output, exit code. */
export async function withRun(
  options: Options,
  work: Work,
  open: (config: Config) => Output = openOutput,
): Promise<number> {
  const config = configOf(options);
  const profile = await loadProfile(config.profile);
  return guarded(async (signal) => (await oneRun({ config, profile, work, signal, open })).exitCode);
}

/** As `withRun`, and `--profile all` is one run after the other. */
export async function withRuns(options: Options, work: Work): Promise<number> {
  const config = configOf(options);
  if (config.profile !== ALL_PROFILES) return withRun(options, work);
  const people = config.tap ? process.stderr : process.stdout;
  return guarded((signal) =>
    runAll(
      config,
      async (each) => {
        const profile = await loadProfile(each.profile);
        return oneRun({ config: each, profile, work, signal, open: openOutput, closing: false });
      },
      (text) => people.write(text),
    ),
  );
}

/** One guard for all that is done: its end is the end of every process that was started. */
async function guarded(work: (signal: AbortSignal) => Promise<number>): Promise<number> {
  await sweepDeadRuns((text) => process.stderr.write(`fusegate: ${text}\n`));
  await using _guard = await guardRun();
  using interrupt = listenForInterrupt((text) => process.stderr.write(text));
  return await work(interrupt.signal);
}

interface OneRun {
  readonly config: Config;
  readonly profile: Profile;
  readonly work: Work;
  readonly signal: AbortSignal;
  readonly open: (config: Config) => Output;
  /** With the closing line at the end of the output, where it stands alone. Default true. */
  readonly closing?: boolean;
}

async function oneRun({ config, profile, work, signal, open, closing = true }: OneRun): Promise<RunResult> {
  using output = open(config);
  const result = await work({
    config,
    profile,
    parts: realParts,
    projectDir: projectRoot,
    sinks: output.sinks,
    signal,
  });
  output.end(result, closing);
  // What was not used for longest makes room; the result of the run does not depend on it.
  if (!signal.aborted) {
    await pruneCache(signal).catch(() => []);
    await pruneRootfs().catch(() => []);
    await pruneVerdicts().catch(() => []);
  }
  return result;
}
