import type { Command } from 'commander';
import type { Options } from '#runner/config/config.ts';
import { guestOnly } from '#runner/run/boot-only.ts';
import type { Ends } from '../main.ts';
import { addPlaceOptions, addMachineOptions } from '../options.ts';
import { openShell } from '../open-shell.ts';
import { withRun } from '../with-run.ts';

/** A guest to look around in. The exit code is that of the shell or the command, once the guest is there. */
export function addShellCommand(program: Command, ends: Ends): void {
  addPlaceOptions(
    addMachineOptions(
      program.command('shell').description('boot, deploy the daemon, and open a shell in the guest'),
    ),
  )
    .argument('[command...]', 'run this instead of a shell')
    .passThroughOptions()
    .action(async (command: readonly string[], options: Options) => {
      let said: number | undefined;
      const code = await withRun(options, (run) =>
        guestOnly(run, async (guest, signal) => {
          said = await openShell(guest.machine, command, signal);
        }),
      );
      ends(said ?? code);
    });
}
