import type { Command } from 'commander';
import type { Options } from '#runner/config/config.ts';
import { bootOnly } from '#runner/run/boot-only.ts';
import type { Ends } from '../main.ts';
import { addPlaceOptions, addMachineOptions } from '../options.ts';
import { withRun } from '../with-run.ts';

/** Boots, says how long that took, and stops; with `--keep` it waits for Ctrl-C. */
export function addBootCommand(program: Command, ends: Ends): void {
  addPlaceOptions(
    addMachineOptions(program.command('boot').description('boot the kernel, say how long it took, and stop')),
  ).action(async (options: Options) => {
    ends(
      await withRun(options, (run) =>
        bootOnly(run, async (machine, signal) => {
          process.stdout.write(
            `${machine.kernel.release} booted in ${(machine.bootMs / 1000).toFixed(1)} s (${machine.accelerator})\n` +
              `console: ${machine.consolePath}\n`,
          );
          if (options['keep'] !== true) return;
          process.stdout.write('running until Ctrl-C\n');
          await Promise.race([machine.lost.then((failure) => Promise.reject(failure)), aborted(signal)]);
        }),
      ),
    );
  });
}

function aborted(signal: AbortSignal): Promise<never> {
  return new Promise((_resolve, reject) => {
    const end = (): void => {
      reject(signal.reason as Error);
    };
    if (signal.aborted) end();
    else signal.addEventListener('abort', end, { once: true });
  });
}
