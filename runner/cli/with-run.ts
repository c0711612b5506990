import { pruneCache } from '#kernel/cache/prune.ts';
import { loadProfile } from '#kernel/profile.ts';
import { pruneRootfs } from '#rootfs/image/prune-rootfs.ts';
import type { Config, Options } from '#runner/config/config.ts';
import { ALL_PROFILES } from '#runner/config/config.ts';
import { projectRoot } from '#runner/lib/paths.ts';
import { guardRun, sweepDeadRuns } from '#runner/lib/reaper.ts';
import type { RunOptions, RunResult } from '#runner/run/run.ts';
import { listenForInterrupt } from './interrupt.ts';
import { configOf } from './options.ts';
import { openOutput } from './output.ts';
import { realParts } from './real-parts.ts';
import { runAll } from './run-all.ts';

/** What every command that does work has around it: config, signals, output, exit code. */
export async function withRun(options: Options, work: Work): Promise<number> {
  return (await oneRun(configOf(options), work)).exitCode;
}

/** As `withRun`, and `--profile all` is one run after the other. */
export async function withRuns(options: Options, work: Work): Promise<number> {
  const config = configOf(options);
  if (config.profile !== ALL_PROFILES) return (await oneRun(config, work)).exitCode;
  const people = config.tap ? process.stderr : process.stdout;
  return runAll(
    config,
    (each) => oneRun(each, work, { closing: false }),
    (text) => people.write(text),
  );
}

type Work = (run: RunOptions) => Promise<RunResult>;

/** `closing`: with the closing line at the end of the output; it stands alone there. */
async function oneRun(config: Config, work: Work, { closing = true } = {}): Promise<RunResult> {
  const profile = await loadProfile(config.profile);
  await sweepDeadRuns((text) => process.stderr.write(`fusegate: ${text}\n`));
  await using _guard = await guardRun();
  using interrupt = listenForInterrupt((text) => process.stderr.write(text));
  using output = openOutput(config);
  const result = await work({
    config,
    profile,
    parts: realParts,
    projectDir: projectRoot,
    sinks: output.sinks,
    signal: interrupt.signal,
  });
  output.end(result, closing);
  // What was not used for longest makes room; the result of the run does not depend on it.
  if (!interrupt.signal.aborted) {
    await pruneCache(interrupt.signal).catch(() => []);
    await pruneRootfs().catch(() => []);
  }
  return result;
}
