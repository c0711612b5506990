import { constants, copyFile, mkdir, mkdtemp, rm, symlink } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import type { KernelImage } from '#kernel/kernel-image.ts';
import { writeMachineInitramfs } from '#rootfs/image/initramfs.ts';
import type { RootfsImage } from '#rootfs/image/rootfs-image.ts';
import type { Emit } from '#runner/lib/events.ts';
import { Failure } from '#runner/lib/failure.ts';
import { plainTemporaryDirectory } from '#runner/lib/reaper.ts';
import { checkBootable } from './bootable.ts';
import { ConsoleLog, readConsole } from './console-log.ts';
import { freePort } from './free-port.ts';
import { bootTimeout } from './machine-failure.ts';
import { MachineProcess } from './machine-process.ts';
import { MachineWatch } from './machine-watch.ts';
import type { Accelerator, Machine } from './machine.ts';
import { qemuVersion } from './qemu.ts';
import { QmpChannel } from './qmp.ts';
import { makeMachineKeys, type MachineKeys } from './ssh-keys.ts';
import { machineTimeouts, type Timeouts } from './timeouts.ts';
import { virtmeArguments, type MachineFiles, type MachinePlan } from './virtme-command.ts';
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
  readonly emit: Emit;
  readonly signal: AbortSignal;
}

/** How often a boot is tried when somebody else takes the port between our look and QEMU's. */
const PORT_ATTEMPTS = 3;

/**
 * Boots a kernel with virtme-ng and waits until the guest's sshd listens. On failure nothing is left but logs.
 * Says `machine-booting`; whoever owns the machine says when it is lost or stopped.
 *
 * @throws Failure of blame kernel: E_BOOT_PANIC, E_NO_BOOT, E_NO_ROOT_DISK, E_NO_NETWORK, E_NO_TMPFS,
 *   E_NO_SSHD; of blame infra: E_QEMU_DIED, E_QEMU_MISSING, E_VNG_MISSING, E_KVM_PERMISSION, E_KVM_UNUSABLE,
 *   E_EMULATION_SUSPECT, E_PORT_TAKEN, E_DISK_FULL, E_MEMORY; E_NOT_A_KERNEL (user); or the signal's reason.
 */
export async function bootMachine(options: BootOptions): Promise<Machine> {
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

async function bootOnce(options: BootOptions, virtme: Virtme): Promise<Machine> {
  await using stack = new AsyncDisposableStack();
  const timeouts = options.timeouts ?? machineTimeouts(options.accelerator);
  const logs = resolve(options.runDir, options.id);
  await mkdir(logs, { recursive: true });
  const consolePath = join(logs, 'console.log');
  const errorPath = join(logs, 'qemu.log');
  const keys = makeMachineKeys();
  const plan = await prepare(options, keys, stack);
  const watch = new MachineWatch({
    accelerator: options.accelerator,
    lastWordsMs: timeouts.lastWordsMs,
    evidence: [
      { label: 'console', path: consolePath },
      { label: 'QEMU log', path: errorPath },
    ],
  });
  const qmp = stack.use(await QmpChannel.listen(plan.files.qmp));

  options.emit({
    type: 'machine-booting',
    machine: options.id,
    accelerator: options.accelerator,
    console: consolePath,
  });
  const startedAt = performance.now();
  const process = await MachineProcess.launch({
    program: virtme.program,
    args: virtmeArguments(plan),
    cwd: plan.files.dir,
    env: {
      ...virtme.env,
      HOME: plan.files.home,
      TMPDIR: plan.files.dir,
      // Tells whose it is when somebody finds it.
      FUSEGATE_MACHINE: options.id,
    },
    consolePath,
    errorPath,
  });
  const console = stack.use(await ConsoleLog.follow(consolePath, watch.onLine));
  stack.defer(async () => {
    watch.close(stopped(options.id));
    await process.stop(qmp, timeouts.stopMs);
  });
  watch.observe(process, qmp, async () => console.drain());
  await waitForSshd(watch, timeouts, options.signal);

  const bootMs = Math.round(performance.now() - startedAt);
  const held = stack.move();
  return {
    ...describeMachine(options, plan, keys),
    consolePath,
    bootMs,
    lost: watch.lost,
    consoleOffset: async () => {
      await console.drain();
      return console.offset;
    },
    consoleSince: async (offset) => readConsole(consolePath, offset),
    [Symbol.asyncDispose]: async () => held.disposeAsync(),
  };
}

function describeMachine(
  { id, kernel, accelerator }: BootOptions,
  { sshPort }: MachinePlan,
  keys: MachineKeys,
): Pick<Machine, 'id' | 'kernel' | 'accelerator' | 'ssh'> {
  return {
    id,
    kernel,
    accelerator,
    ssh: {
      host: '127.0.0.1',
      port: sshPort,
      username: 'root',
      privateKey: keys.clientPrivateKey,
      hostKey: keys.hostKey,
    },
  };
}

/** What goes on disk before vng starts: a directory of our own with short names, and this machine's keys. */
async function prepare(
  { id, kernel, rootfs, accelerator, ...options }: BootOptions,
  keys: MachineKeys,
  stack: AsyncDisposableStack,
): Promise<MachinePlan> {
  const dir = await mkdtemp(join(plainTemporaryDirectory(), 'fusegate-'));
  stack.defer(async () => rm(dir, { recursive: true, force: true }));
  const file = (name: string): string => join(dir, name);
  const files: MachineFiles = {
    dir,
    kernel: file('kernel'),
    initramfs: file('initramfs'),
    rootDisk: file('root.ext4'),
    scratchDisk: file('scratch.ext4'),
    qmp: file('qmp'),
    emptyRoot: file('empty'),
    home: file('home'),
  };
  await Promise.all([
    // A copy: virtme-ng looks for the release in the file itself, and a link has none.
    copyFile(kernel.bzImage, files.kernel, constants.COPYFILE_FICLONE),
    symlink(resolve(rootfs.rootDisk), files.rootDisk),
    symlink(resolve(rootfs.scratchDisk), files.scratchDisk),
    mkdir(files.emptyRoot),
    mkdir(files.home),
    writeMachineInitramfs(rootfs.initramfs, keys, files.initramfs),
  ]);
  return {
    id,
    accelerator,
    memoryMib: options.memoryMib ?? 1024,
    cpus: options.cpus ?? (accelerator === 'kvm' ? 2 : 1),
    sshPort: await freePort(),
    append: options.append ?? [],
    files,
  };
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
      const deadline = Promise.withResolvers<never>();
      deadline.promise.catch(() => undefined);
      const timer = setTimeout(
        () => deadline.reject(bootTimeout(watch.witness(), limitMs, watch.lastLine)),
        limitMs,
      );
      try {
        await Promise.race([reached, failed, aborted.promise, deadline.promise]);
      } finally {
        clearTimeout(timer);
      }
    }
  } finally {
    signal.removeEventListener('abort', abort);
  }
}

function stopped(id: string): Failure {
  return new Failure('E_MACHINE_STOPPED', 'infra', `the machine ${id} has been stopped`);
}

function interruption(signal: AbortSignal): Failure {
  if (signal.reason instanceof Failure) return signal.reason;
  return new Failure('E_INTERRUPTED', 'interrupted', 'interrupted while booting', { cause: signal.reason });
}
