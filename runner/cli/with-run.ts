import { pruneCache } from '#kernel/cache/prune.ts';
import { loadProfile } from '#kernel/profile.ts';
import { pruneRootfs } from '#rootfs/image/prune-rootfs.ts';
import type { Config, Options } from '#runner/config/config.ts';
import { projectRoot } from '#runner/lib/paths.ts';
import { guardRun, sweepDeadRuns } from '#runner/lib/reaper.ts';
import type { RunOptions, RunResult } from '#runner/run/run.ts';
import { listenForInterrupt } from './interrupt.ts';
import { configOf } from './options.ts';
import { openOutput, type Output } from './output.ts';
import { realParts } from './real-parts.ts';

/** What every command that does work has around it: config, signals, output, exit code. */
export async function withRun(
  options: Options,
  work: (run: RunOptions) => Promise<RunResult>,
  open: (config: Config) => Output = openOutput,
): Promise<number> {
  const config = configOf(options);
  const profile = await loadProfile(config.profile);
  await sweepDeadRuns((text) => process.stderr.write(`fusegate: ${text}\n`));
  await using _guard = await guardRun();
  using interrupt = listenForInterrupt((text) => process.stderr.write(text));
  using output = open(config);
  const { report, reportPath, exitCode } = await work({
    config,
    profile,
    parts: realParts,
    projectDir: projectRoot,
    sinks: output.sinks,
    signal: interrupt.signal,
  });
  output.end(report, reportPath);
  // What was not used for longest makes room; the result of the run does not depend on it.
  if (!interrupt.signal.aborted) {
    await pruneCache(interrupt.signal).catch(() => []);
    await pruneRootfs().catch(() => []);
  }
  return exitCode;
}
