import { symlink } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import type { KernelImage } from '#kernel/kernel-image.ts';
import type { RootfsImage } from '#rootfs/image/rootfs-image.ts';
import type { Emit } from '#runner/lib/events.ts';
import { beforeDeadline } from '#runner/lib/deadline.ts';
import { Failure } from '#runner/lib/failure.ts';
import type { AgentPort } from './agent-port.ts';
import { byCommand, launchMachine, machineOf, type LaunchedMachine } from './launch-machine.ts';
import { machineDirectory } from './machine-directory.ts';
import type { Accelerator, Machine } from './machine.ts';
import type { QmpChannel } from './qmp.ts';
import { machineTimeouts, type Timeouts } from './timeouts.ts';
import { virtmePart, type QemuCommand } from './qemu-command.ts';
import type { MachinePlan } from './virtme-command.ts';

/** A machine's whole state on disk. Never written to; any number of machines may go on from it. */
export interface SavedMachine {
  readonly kernel: KernelImage;
  readonly rootfs: RootfsImage;
  readonly accelerator: Accelerator;
  /** What the copy must have the same as the machine that was saved. */
  readonly shape: Pick<MachinePlan, 'memoryMib' | 'cpus' | 'append'>;
  /** With what virtme-ng had started it: its copies are started in the same way, without asking it again. */
  readonly command: QemuCommand;
  /** The guest's memory. */
  readonly memory: string;
  /** QEMU's migration stream: processors and devices. */
  readonly state: string;
  /** The scratch disk as it was at that moment. */
  readonly scratchDisk: string;
}

/** No limit: the stream goes to a file. Bytes per second. */
const MAX_BANDWIDTH = 2 ** 40;

/**
 * Writes the state of a running machine to `file` and says how to start a copy of it. The machine does not go on afterwards: stop it.
 * It must not be paused before, or its copies wake up paused.
 *
 * @throws Failure E_QMP, E_QEMU_DIED …, E_NOT_SAVED (infra)
 */
export async function saveMachine(
  { plan, qmp, watch, commandLine }: LaunchedMachine,
  file: string,
): Promise<QemuCommand> {
  const command = virtmePart((await commandLine()) ?? [], plan);
  if (command === undefined)
    throw new Failure('E_NOT_SAVED', 'infra', 'virtme-ng has not started QEMU as it was asked to');
  // QEMU gives the command to a shell: it gets a name without special characters.
  const link = join(plan.files.dir, 'state');
  await symlink(resolve(file), link);
  await qmp.execute('migrate-set-parameters', { 'max-bandwidth': MAX_BANDWIDTH });
  await leaveMemory(qmp);
  await orLost(watch.lost, qmp.migrate('migrate', `exec:cat >${link}`));
  return command;
}

export interface RestoreOptions {
  readonly id: string;
  readonly saved: SavedMachine;
  readonly runDir: string;
  readonly timeouts?: Timeouts | undefined;
  readonly emit: Emit;
  readonly signal: AbortSignal;
}

/** A machine without a door for SSH: whoever saved it has thrown its keys away. */
export type RestoredMachine = Machine & { readonly port: AgentPort };

/**
 * A copy of a saved machine, running. On failure nothing is left but logs.
 *
 * @throws Failure E_RESTORE (infra) when QEMU does not take the state; or the signal's reason.
 */
export async function restoreMachine(options: RestoreOptions): Promise<RestoredMachine> {
  options.signal.throwIfAborted();
  await using stack = new AsyncDisposableStack();
  const { saved, id } = options;
  const { kernel, rootfs, accelerator, scratchDisk, shape, command, memory } = saved;
  const timeouts = options.timeouts ?? machineTimeouts(accelerator);
  const files = await machineDirectory(stack, {
    ...{ kernel, kernelBy: 'link', rootDisk: rootfs.rootDisk, scratchDisk },
  });
  const link = join(files.dir, 'state');
  await Promise.all([
    symlink(resolve(rootfs.initramfs), files.initramfs),
    symlink(resolve(saved.state), link),
    symlink(resolve(memory), files.memory),
  ]);
  const plan: MachinePlan = {
    ...{ id, accelerator, ...shape, files },
    ...{ sshPort: null, scratch: 'throwaway', incoming: true, memory: 'copy' },
  };
  const startedAt = performance.now();
  const starter = byCommand(command, plan);
  const launched = stack.use(await launchMachine({ ...options, accelerator, plan, starter, timeouts }));
  const { watch, qmp, port } = launched;
  try {
    await orLost(watch.lost, leaveMemory(qmp));
    const loaded = qmp.migrate('migrate-incoming', `exec:cat ${link}`);
    await orLost(
      watch.lost,
      beforeDeadline(loaded, timeouts.initMs, () => notLoaded(timeouts.initMs)),
    );
  } catch (cause) {
    options.signal.throwIfAborted();
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new Failure('E_RESTORE', 'infra', `the saved machine cannot be restored: ${why}`, { cause });
  }
  const bootMs = Math.round(performance.now() - startedAt);
  const held = stack.move();
  const machine = machineOf({ id, kernel, accelerator }, launched, bootMs);
  return { ...machine, port, [Symbol.asyncDispose]: async () => held.disposeAsync() };
}

/** The memory is in a file of its own, and no part of the stream. */
async function leaveMemory(qmp: QmpChannel): Promise<void> {
  const capabilities = [{ capability: 'x-ignore-shared', state: true }];
  await qmp.execute('migrate-set-capabilities', { capabilities });
}

async function orLost<T>(lost: Promise<Failure>, work: Promise<T>): Promise<T> {
  work.catch(() => undefined);
  const answer = await Promise.race([work, lost]);
  if (answer instanceof Failure) throw answer;
  return answer;
}

function notLoaded(limitMs: number): never {
  throw new Failure('E_RESTORE', 'infra', `QEMU has not loaded it in ${limitMs} ms`);
}
