import type { Command } from 'commander';
import type { Options } from '#runner/config/config.ts';
import { run } from '#runner/run/run.ts';
import { addPlaceOptions, addRunOptions } from '../options.ts';
import type { Ends } from '../main.ts';
import { withRuns } from '../with-run.ts';

/** The main job: kernel, image, machines, suites, report. */
export function addRunCommand(program: Command, ends: Ends): void {
  addPlaceOptions(
    addRunOptions(program.command('run').description('build, boot, run the suites, write the report')),
  ).action(async (options: Options) => {
    ends(await withRuns(options, run));
  });
}
