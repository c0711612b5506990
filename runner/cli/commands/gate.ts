import type { Command } from 'commander';
import { Option } from 'commander';
import { resolve } from 'node:path';
import { kernelWarnings, pristineSource } from '#kernel/prepare-kernel.ts';
import { seriesPath, type Config, type Options } from '#runner/config/config.ts';
import { gateFormats, type GateFormat } from '#runner/gate/formats.ts';
import { runGate } from '#runner/gate/run-gate.ts';
import { Failure } from '#runner/lib/failure.ts';
import type { Ends } from '../main.ts';
import { addRunOptions } from '../options.ts';
import { openGateOutput } from '../gate-output.ts';
import { withRun } from '../with-run.ts';

interface GateArguments extends Options {
  readonly format: GateFormat;
  readonly against?: string;
  readonly explain?: string;
  readonly deadline?: string;
  /** commander's name for --no-cache. */
  readonly cache: boolean;
}

/** A verdict on every patch of a series. */
export function addGateCommand(program: Command, ends: Ends): void {
  addRunOptions(
    program
      .command('gate')
      .description('build, boot and test after every patch of a series: which one broke what'),
  )
    .option('--base <ref>', 'commit of --tree to put the series on')
    .option(
      '--against <series>',
      'the whole of an earlier version in place of the base: what did the new one change?',
    )
    .option('--deadline <time>', 'begin nothing new after this long, such as 30m; the next call goes on')
    .option('--no-cache', 'run again what is known from an earlier gate')
    .option('--explain <test>', 'why the verdict on a test is what it is')
    .addOption(
      new Option('--format <format>', 'what standard output gets').choices(gateFormats).default('text'),
    )
    .action(async ({ format, against, explain, deadline, cache, ...options }: GateArguments) => {
      const older = against === undefined ? undefined : seriesPath(against, (path) => resolve(path));
      const tools = { kernelWarnings, pristineSource };
      const wishes = { against: older, deadline, useCache: cache, tools };
      if (options['tap'] === true) throw tapRefused();
      ends(
        await withRun(
          options,
          (run) => runGate(run, wishes),
          (config) => {
            refuseReadyKernel(config);
            return openGateOutput(config, format, explain);
          },
        ),
      );
    });
}

/** @throws Failure E_USAGE (user): a gate compares kernels that differ by its patches, and builds them. */
function refuseReadyKernel({ kernel }: Pick<Config, 'kernel'>): void {
  if (kernel === null) return;
  throw new Failure('E_USAGE', 'user', 'a gate builds its kernels itself: there is no use for --kernel', {
    hint: '`npx fusegate run --kernel` tests one that is ready',
  });
}

/** TAP follows the tests of one kernel as they end; a gate's verdicts are there when all of it is over. */
function tapRefused(): Failure {
  return new Failure('E_USAGE', 'user', 'a gate has no --tap: its verdicts come at the end', {
    hint: '--format ktap prints them as KTAP',
  });
}
