import { access, constants, mkdir, readFile, stat, writeFile } from 'node:fs/promises';
import { z } from 'zod';
import { Failure } from '#runner/lib/failure.ts';
import { cacheDir } from '#runner/lib/paths.ts';
import { currentBootId } from '#runner/lib/run-record.ts';
import { probeBootSector, probeKernel, type ProbeResult } from './boot-probe.ts';
import type { Accelerator } from './machine.ts';
import { qemuVersion } from './qemu.ts';

export interface ProbeContext {
  readonly signal?: AbortSignal | undefined;
  /** A built kernel to try; without one only a boot sector is tried, which proves less. */
  readonly bzImage?: string | undefined;
}

export interface AcceleratorChoice {
  readonly accelerator: Accelerator;
  /** One sentence, for the report and for `doctor`. */
  readonly reason: string;
}

const DEVICE = '/dev/kvm';
const PERMISSION_HINT =
  'add yourself to the group kvm, or put KERNEL=="kvm", GROUP="kvm", MODE="0666", OPTIONS+="static_node=kvm" into a udev rule';

/**
 * Decides how guests are run, by running one. The answer of a probe with a kernel is remembered until this
 * machine is started anew or QEMU changes.
 *
 * @throws Failure E_KVM_PERMISSION, E_KVM_UNUSABLE (infra) when `kvm` is wanted and cannot be had;
 *   E_QEMU_MISSING (infra).
 */
export async function probeAccelerator(
  wanted: 'auto' | Accelerator,
  context: ProbeContext = {},
): Promise<AcceleratorChoice> {
  const qemu = await qemuVersion(context.signal);
  if (wanted === 'tcg') return { accelerator: 'tcg', reason: 'emulation was asked for' };
  const obstacle = await deviceObstacle();
  const result = obstacle ?? (await probeOnce(qemu, context));
  if (result.runs) return { accelerator: 'kvm', reason: result.proof };
  if (wanted === 'auto') return { accelerator: 'tcg', reason: `KVM cannot be used: ${result.reason}` };
  throw new Failure(
    obstacle?.permission === true ? 'E_KVM_PERMISSION' : 'E_KVM_UNUSABLE',
    'infra',
    `KVM cannot be used: ${result.reason}`,
    { hint: obstacle?.permission === true ? PERMISSION_HINT : 'use --accel auto or --accel tcg' },
  );
}

type Obstacle = Extract<ProbeResult, { runs: false }> & { readonly permission: boolean };

async function deviceObstacle(): Promise<Obstacle | undefined> {
  const found = await stat(DEVICE).catch(() => undefined);
  if (found === undefined) return { runs: false, reason: `there is no ${DEVICE}`, permission: false };
  const usable = await access(DEVICE, constants.R_OK | constants.W_OK).then(
    () => true,
    () => false,
  );
  if (usable) return undefined;
  return { runs: false, reason: `no permission to open ${DEVICE}`, permission: true };
}

const Remembered = z.object({
  bootId: z.string(),
  qemu: z.string(),
  result: z.union([
    z.object({ runs: z.literal(true), proof: z.string() }),
    z.object({ runs: z.literal(false), reason: z.string() }),
  ]),
});

async function probeOnce(qemu: string, { bzImage, signal }: ProbeContext): Promise<ProbeResult> {
  const bootId = await currentBootId();
  const remembered = await recall();
  if (remembered?.bootId === bootId && remembered.qemu === qemu) return remembered.result;
  // Without a kernel a "yes" is only a guess, and not one to remember.
  if (bzImage === undefined) return probeBootSector(signal);
  const result = await probeKernel(bzImage, signal);
  await remember({ bootId, qemu, result });
  return result;
}

async function recall(): Promise<z.infer<typeof Remembered> | undefined> {
  try {
    return Remembered.parse(JSON.parse(await readFile(cacheDir('kvm-probe.json'), 'utf8')));
  } catch {
    return undefined;
  }
}

async function remember(what: z.infer<typeof Remembered>): Promise<void> {
  await mkdir(cacheDir(), { recursive: true });
  await writeFile(cacheDir('kvm-probe.json'), `${JSON.stringify(what)}\n`);
}
