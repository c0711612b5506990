import { readFile, statfs, writeFile } from 'node:fs/promises';
import { cpus } from 'node:os';
import { dirname, join } from 'node:path';
import { diskFull } from '#kernel/cache/disk-full.ts';
import { attachAgent } from '#runner/guest/attach.ts';
import { installAgent } from '#runner/guest/install-agent.ts';
import { storeEntry } from '#runner/lib/content-store.ts';
import { forgetLeaks } from '#runner/guest/leak-scan.ts';
import { exec } from '#runner/lib/exec.ts';
import { Failure } from '#runner/lib/failure.ts';
import { cacheDir } from '#runner/lib/paths.ts';
import { bootMachine, kernelWords } from '#runner/machine/boot-machine.ts';
import { qemuCommandSchema } from '#runner/machine/qemu-command.ts';
import { qemuVersion } from '#runner/machine/qemu.ts';
import { saveMachine, type SavedMachine } from '#runner/machine/saved-machine.ts';
import { machineTimeouts } from '#runner/machine/timeouts.ts';
import { findVirtme } from '#runner/machine/virtme.ts';
import type { PartContext, SaveRequest } from '#runner/run/parts.ts';
import { stateKey } from './state-key.ts';
import { warmUp } from './warm-up.ts';
import { zeroFreeMemory } from './zero-free-memory.ts';

/** Deadlines in a guest without KVM are longer by this, as in `deployDaemon`. */
const EMULATED_SLOWDOWN = 6;

const STATE = 'state';
const MEMORY = 'memory';
const COMMAND = 'qemu.json';
const SCRATCH = 'scratch.ext4';

/**
 * The saved machine for these inputs, from the cache or made now: booted, the daemon deployed over SSH and
 * warmed up, saved when idle.
 *
 * @throws Failure as `bootMachine`; E_NOT_SAVED (infra) when it boots but cannot be saved; E_DISK_FULL (infra).
 */
export async function saveGuest(
  request: SaveRequest,
  context: PartContext,
): Promise<{ readonly saved: SavedMachine; readonly cached: boolean }> {
  const { kernel, rootfs, accelerator, needs } = request;
  const append = kernelWords(request.append);
  // As many processors as `bootMachine` gives.
  const shape = { memoryMib: needs.memoryMib, cpus: accelerator === 'kvm' ? 2 : 1, append };
  const [qemu, virtme] = await Promise.all([qemuVersion(context.signal), findVirtme(context.signal)]);
  const key = stateKey({
    kernel: kernel.imageSha256,
    rootfs: rootfs.key,
    daemon: request.bundle.sha256,
    abi: request.abi,
    accelerator,
    ...shape,
    qemu,
    virtme: virtme.version,
    processor: cpus()[0]?.model ?? '',
  });
  const dir = cacheDir('states', key);
  const { cached } = await storeEntry({
    dir,
    files: [STATE, MEMORY, SCRATCH, COMMAND],
    signal: context.signal,
    note: (text) => context.emit({ type: 'note', text }),
    make: async (draft) => {
      await makeState(request, shape, draft, context);
      await digHoles(join(draft, MEMORY), context.signal);
    },
  });
  const command = qemuCommandSchema.parse(JSON.parse(await readFile(join(dir, COMMAND), 'utf8')));
  const saved = {
    ...{ kernel, rootfs, accelerator, shape, command },
    ...{ state: join(dir, STATE), memory: join(dir, MEMORY), scratchDisk: join(dir, SCRATCH) },
  };
  return { saved, cached };
}

/** A guest whose memory finds no room on the disk takes QEMU with it (SIGBUS), and nobody could tell why. */
async function checkRoom(dir: string, memoryMib: number): Promise<void> {
  const { bavail, bsize } = await statfs(dir);
  const freeMib = Math.floor((bavail * bsize) / 2 ** 20);
  if (freeMib >= memoryMib) return;
  const what = `a machine of ${memoryMib} MiB cannot be saved below ${dirname(dir)}, which has ${freeMib} MiB left`;
  throw new Failure('E_DISK_FULL', 'infra', what, {
    hint: '`npx fusegate clean` removes what can be made again',
  });
}

/** Pages of zeros take no room on the disk, and are not read. Where files have no holes they stay. */
async function digHoles(path: string, signal: AbortSignal): Promise<void> {
  await exec('fallocate', ['--dig-holes', path], { signal });
}

async function makeState(
  request: SaveRequest,
  shape: SavedMachine['shape'],
  draft: string,
  { emit, signal }: PartContext,
): Promise<void> {
  const { kernel, rootfs, accelerator, needs, bundle, abi, out } = request;
  const slowdown = needs.slowdown * (accelerator === 'tcg' ? EMULATED_SLOWDOWN : 1);
  const timeouts = machineTimeouts(accelerator, needs.slowdown);
  const scratchDisk = join(draft, SCRATCH);
  await checkRoom(draft, needs.memoryMib);
  const copied = await exec('cp', ['--sparse=always', '--', rootfs.scratchDisk, scratchDisk], { signal });
  if (copied.exitCode !== 0) throw await diskFull(scratchDisk, new Error(copied.stderr.trim()));
  await using machine = await bootMachine({
    ...{
      id: 'machine-saved',
      kernel,
      rootfs,
      accelerator,
      ...shape,
      timeouts,
      scratchDisk,
      memoryFile: join(draft, MEMORY),
      runDir: out,
      emit,
      signal,
    },
  });
  try {
    await installAgent(machine, bundle, { signal, slowdown });
    const { launched } = machine;
    const answerMs = 10_000 * slowdown;
    await using guest = await attachAgent(machine, launched.port, { signal, answerMs, restored: false });
    const slow = { ...guest, slowdown: guest.slowdown * needs.slowdown };
    await warmUp(slow, abi, signal);
    if (needs.leakScan) await forgetLeaks(guest, signal);
    await zeroFreeMemory(slow, signal);
    const command = await saveMachine(launched, join(draft, STATE));
    await writeFile(join(draft, COMMAND), `${JSON.stringify(command, undefined, 2)}\n`);
    emit({ type: 'machine-stopped', machine: machine.id });
  } catch (error) {
    // It boots. What it does afterwards is for the tests to find out.
    if (!(error instanceof Failure) || error.blame === 'interrupted') throw error;
    throw notSaved(error);
  }
}

function notSaved(cause: Failure): Failure {
  return new Failure('E_NOT_SAVED', 'infra', `the machine could not be saved: ${cause.message}`, {
    hint: cause.hint,
    evidence: cause.evidence,
    cause,
  });
}
