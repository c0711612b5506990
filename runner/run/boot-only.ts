import type { DeployedGuest } from '#runner/guest/guest.ts';
import type { Machine } from '#runner/machine/machine.ts';
import { prepareAll } from './prepare.ts';
import type { RunOptions, RunResult } from './run.ts';
import { reported } from './run.ts';
import type { PartContext } from './parts.ts';
import type { StartOptions } from './start-guest.ts';
import { bootAndDeploy, bootMachine } from './start-guest.ts';

/** One machine without the daemon, for as long as `use` takes. */
export function bootOnly(
  options: RunOptions,
  use: (machine: Machine, signal: AbortSignal) => Promise<void>,
): Promise<RunResult> {
  return onMachine(options, async (start, context) => {
    await using machine = await bootMachine(start, 'machine-1', context);
    await use(machine, context.signal);
  });
}

/** One guest with the daemon, for as long as `use` takes. */
export function guestOnly(
  options: RunOptions,
  use: (guest: DeployedGuest, signal: AbortSignal) => Promise<void>,
): Promise<RunResult> {
  return onMachine(options, async (start, context) => {
    await using stack = new AsyncDisposableStack();
    await use(await bootAndDeploy(start, 'machine-1', context, stack), context.signal);
  });
}

function onMachine(
  options: RunOptions,
  work: (start: StartOptions, context: PartContext) => Promise<void>,
): Promise<RunResult> {
  return reported(options, async (builder, bus) => {
    const { config, profile, parts, signal } = options;
    const context = { emit: bus.emit, signal };
    const prepared = await prepareAll(config, profile, parts, context);
    builder.kernel(prepared.kernel);
    builder.accelerator(prepared.accelerator);
    await work({ prepared, parts, append: config.append, out: config.out }, context);
    return prepared.kernel;
  });
}
