import { statfs, symlink, writeFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { diskFull } from '#kernel/cache/disk-full.ts';
import type { KernelImage } from '#kernel/kernel-image.ts';
import { writeMachineInitramfs } from '#rootfs/image/initramfs.ts';
import type { RootfsImage } from '#rootfs/image/rootfs-image.ts';
import { beforeDeadline } from '#runner/lib/deadline.ts';
import type { Emit } from '#runner/lib/events.ts';
import { Failure } from '#runner/lib/failure.ts';
import { checkBootable } from './bootable.ts';
import { freePort } from './free-port.ts';
import { knownStarter, rememberCommand } from './known-command.ts';
import { byVirtme, launchMachine, machineOf, type LaunchedMachine } from './launch-machine.ts';
import { machineDirectory } from './machine-directory.ts';
import { bootTimeout, noFuse } from './machine-failure.ts';
import type { MachineWatch } from './machine-watch.ts';
import type { Accelerator, BootedMachine, SshEndpoint } from './machine.ts';
import { qemuVersion } from './qemu.ts';
import { makeMachineKeys, type MachineKeys } from './ssh-keys.ts';
import { machineTimeouts, type Timeouts } from './timeouts.ts';
import type { MachinePlan } from './virtme-command.ts';
import { findVirtme, type Virtme } from './virtme.ts';

export interface BootOptions {
  /** Names the machine in events and its log directory. Letters, digits, dots and dashes. */
  readonly id: string;
  readonly kernel: KernelImage;
  readonly rootfs: RootfsImage;
  readonly accelerator: Accelerator;
  /** The logs go to `<runDir>/<id>/` and stay. */
  readonly runDir: string;
  readonly memoryMib?: number | undefined;
  /** Default: 2 with KVM; 1 without, because several emulated CPUs trip over self-modifying code. */
  readonly cpus?: number | undefined;
  /** Further kernel arguments. */
  readonly append?: readonly string[] | undefined;
  readonly timeouts?: Timeouts | undefined;
  /** A scratch disk of this machine's own, which keeps what is written to it. Default: the image's, unchanged. */
  readonly scratchDisk?: string | undefined;
  /** The guest's memory is this file, which is made; for whoever saves it. Default: of the process. */
  readonly memoryFile?: string | undefined;
  readonly emit: Emit;
  readonly signal: AbortSignal;
}

/** With the lines to QEMU, for whoever saves its state. */
export type OwnedMachine = BootedMachine & { readonly launched: LaunchedMachine };

/** The words of `--append`. */
export function kernelWords(append: string): readonly string[] {
  return append.split(/\s+/).filter((word) => word !== '');
}

/** How often a boot is tried when somebody else takes the port between our look and QEMU's. */
const PORT_ATTEMPTS = 3;

/**
 * Boots a kernel with virtme-ng, or as virtme-ng has booted its like before, and waits until the guest's sshd
 * listens. On failure nothing is left but logs.
 * Says `machine-booting`; whoever owns the machine says when it is lost or stopped.
 *
 * @throws Failure of blame kernel: E_BOOT_PANIC, E_NO_BOOT, E_NO_ROOT_DISK, E_NO_NETWORK, E_NO_TMPFS,
 *   E_NO_SSHD, E_NO_FUSE; of blame infra: E_QEMU_DIED, E_QEMU_MISSING, E_VNG_MISSING, E_KVM_PERMISSION, E_KVM_UNUSABLE,
 *   E_EMULATION_SUSPECT, E_PORT_TAKEN, E_DISK_FULL, E_MEMORY; E_NOT_A_KERNEL (user); or the signal's reason.
 */
export async function bootMachine(options: BootOptions): Promise<OwnedMachine> {
  if (!/^[A-Za-z0-9][A-Za-z0-9.-]*$/.test(options.id)) throw new TypeError(`bad machine id: ${options.id}`);
  options.signal.throwIfAborted();
  const [virtme] = await Promise.all([
    findVirtme(options.signal),
    qemuVersion(options.signal),
    checkBootable(options.kernel.bzImage),
  ]);
  for (let attempt = 1; ; attempt++) {
    try {
      return await bootOnce(options, virtme);
    } catch (error) {
      if (!(error instanceof Failure) || error.code !== 'E_PORT_TAKEN' || attempt === PORT_ATTEMPTS)
        throw error;
      options.emit({ type: 'note', text: `${options.id}: another program took the SSH port; booting again` });
    }
  }
}

async function bootOnce(options: BootOptions, virtme: Virtme): Promise<OwnedMachine> {
  await using stack = new AsyncDisposableStack();
  const timeouts = options.timeouts ?? machineTimeouts(options.accelerator);
  const keys = makeMachineKeys();
  const plan = await prepare(options, keys, stack);
  const startedAt = performance.now();
  const question = { virtme, plan, release: options.kernel.release };
  const known = knownStarter(question);
  const starter = known ?? byVirtme(virtme, plan);
  const launched = stack.use(await launchMachine({ ...options, timeouts, plan, starter }));
  const { watch, consolePath } = launched;
  await noticeLostConsole(consolePath, () => waitForSshd(watch, timeouts, options.signal));
  // The init looks before it starts sshd.
  if (watch.withoutFuse) throw noFuse(watch.witness());

  const bootMs = Math.round(performance.now() - startedAt);
  if (known === undefined) await rememberCommand(question, launched);
  const held = stack.move();
  const ssh: SshEndpoint = {
    host: '127.0.0.1',
    port: plan.sshPort ?? 0,
    username: 'root',
    privateKey: keys.clientPrivateKey,
    hostKey: keys.hostKey,
  };
  return {
    ...machineOf(options, launched, bootMs),
    ssh,
    launched,
    [Symbol.asyncDispose]: async () => held.disposeAsync(),
  };
}

/** What goes on disk before vng starts: a directory of our own with short names, and this machine's keys. */
async function prepare(
  { id, kernel, rootfs, accelerator, ...options }: BootOptions,
  keys: MachineKeys,
  stack: AsyncDisposableStack,
): Promise<MachinePlan> {
  const files = await machineDirectory(stack, {
    kernel,
    kernelBy: 'copy',
    rootDisk: rootfs.rootDisk,
    scratchDisk: options.scratchDisk ?? rootfs.scratchDisk,
  });
  await writeMachineInitramfs(rootfs.initramfs, keys, files.initramfs);
  if (options.memoryFile !== undefined) {
    // QEMU makes no file where a link leads to none.
    await writeFile(options.memoryFile, '');
    await symlink(resolve(options.memoryFile), files.memory);
  }
  return {
    id,
    accelerator,
    memoryMib: options.memoryMib ?? 1024,
    cpus: options.cpus ?? (accelerator === 'kvm' ? 2 : 1),
    sshPort: await freePort(),
    scratch: options.scratchDisk === undefined ? 'throwaway' : 'kept',
    incoming: false,
    memory: options.memoryFile === undefined ? 'anonymous' : 'file',
    append: options.append ?? [],
    files,
  };
}

/** QEMU drops what it cannot write to the console file: a full disk would look like a kernel that is silent. */
async function noticeLostConsole(consolePath: string, wait: () => Promise<void>): Promise<void> {
  try {
    await wait();
  } catch (error) {
    if (!(error instanceof Failure) || error.blame !== 'kernel') throw error;
    const { bavail } = await statfs(consolePath);
    throw bavail > 0 ? error : await diskFull(consolePath, error);
  }
}

async function waitForSshd(watch: MachineWatch, timeouts: Timeouts, signal: AbortSignal): Promise<void> {
  const aborted = Promise.withResolvers<never>();
  const abort = (): void => aborted.reject(interruption(signal));
  signal.addEventListener('abort', abort, { once: true });
  const failed = watch.lost.then((failure) => Promise.reject(failure));
  // Whichever is left behind after the race must not count as unhandled.
  failed.catch(() => undefined);
  aborted.promise.catch(() => undefined);
  try {
    signal.throwIfAborted();
    for (const [reached, limitMs] of [
      [watch.initStarted, timeouts.initMs],
      [watch.sshdUp, timeouts.sshdMs],
    ] as const) {
      await beforeDeadline(Promise.race([reached, failed, aborted.promise]), limitMs, () => {
        throw bootTimeout(watch.witness(), limitMs, watch.lastLine);
      });
    }
  } finally {
    signal.removeEventListener('abort', abort);
  }
}

function interruption(signal: AbortSignal): Failure {
  if (signal.reason instanceof Failure) return signal.reason;
  return new Failure('E_INTERRUPTED', 'interrupted', 'interrupted while booting', { cause: signal.reason });
}
