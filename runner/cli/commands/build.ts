import type { Command } from 'commander';
import type { Options } from '#runner/config/config.ts';
import { build } from '#runner/run/run.ts';
import type { Ends } from '../main.ts';
import { addPlaceOptions, addKernelOptions } from '../options.ts';
import { withRun } from '../with-run.ts';

/** The kernel stages only; says where the image is. */
export function addBuildCommand(program: Command, ends: Ends): void {
  addPlaceOptions(
    addKernelOptions(program.command('build').description('build the kernel and nothing else')),
  ).action(async (options: Options) => {
    const code = await withRun(options, async (run) => {
      const result = await build(run);
      if (result.kernel !== undefined) process.stdout.write(`${result.kernel.bzImage}\n`);
      return result;
    });
    ends(code);
  });
}
