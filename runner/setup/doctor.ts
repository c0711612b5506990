import { access, constants, readFile, stat, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { exec, VERSION_MS } from '#runner/lib/exec.ts';
import { Failure } from '#runner/lib/failure.ts';
import { cacheDir, projectRoot } from '#runner/lib/paths.ts';
import { diagnoseCache } from './cache-contents.ts';
import type { Diagnosis } from './diagnosis.ts';
import { findProbe, systemPackages, type SystemPackage } from './system-packages.ts';

/** What the doctor cannot find out itself: the parts that know it hand it in. */
export interface Instruments {
  /** Runs guest code, and says which accelerator did it; `reason` tells why it is not KVM. */
  readonly probeAccelerator: () => Promise<{ readonly accelerator: 'kvm' | 'tcg'; readonly reason: string }>;
  /** The virtme-ng that machines are started with. @throws Failure when there is none */
  readonly findVirtme: () => Promise<{ readonly program: string; readonly version: string }>;
}

/** Room for sources, a build tree, ccache and images of one profile. Bytes. */
const CACHE_ROOM = 10 * 1024 ** 3;

/** Looks at this machine and changes nothing. Never rejects for what it finds. */
export async function diagnose(instruments: Instruments): Promise<readonly Diagnosis[]> {
  const parts = await Promise.all([
    diagnoseNode(),
    diagnosePackages(),
    diagnoseVirtme(instruments),
    diagnoseQemu(),
    diagnoseKvmDevice(),
    diagnoseAccelerator(instruments),
    diagnoseDisk(),
    diagnoseCache(),
  ]);
  return parts.flat();
}

async function diagnoseNode(): Promise<Diagnosis> {
  const text = await readFile(join(projectRoot, 'package.json'), 'utf8');
  const pins = (JSON.parse(text) as { optionalDependencies: Record<string, string> }).optionalDependencies;
  const pin = `v${pins[`node-linux-${process.arch}`] ?? '?'}`;
  const common = { name: 'node', neededFor: 'everything' };
  if (process.version === pin) {
    return { ...common, state: 'ok', detail: `${process.version}, the pinned one, ${process.execPath}` };
  }
  const detail = `${process.version} at ${process.execPath}, but ${pin} is pinned`;
  return { ...common, state: 'missing', detail, remedy: 'make setup' };
}

async function diagnosePackages(): Promise<readonly Diagnosis[]> {
  const packages = (await systemPackages()).filter(({ need }) => need !== 'vng');
  const found = await Promise.all(
    packages.map(async (wanted) => ({ wanted, place: await findProbe(wanted.probe) })),
  );
  const missing = found.filter(({ place }) => place === undefined).map(({ wanted }) => wanted);
  const present: Diagnosis = {
    name: 'packages',
    state: 'ok',
    detail: `${found.length - missing.length} of ${found.length} system packages`,
    neededFor: 'make test',
  };
  return missing.length === 0 ? [present] : [present, ...missingPackages(missing)];
}

function missingPackages(missing: readonly SystemPackage[]): readonly Diagnosis[] {
  const command = `apt-get install --no-install-recommends ${missing.map(({ name }) => name).join(' ')}`;
  return missing.map(({ name, probe, reason }, index) => ({
    name,
    state: 'missing' as const,
    detail: `no ${probe}`,
    neededFor: reason,
    remedy: index === missing.length - 1 ? `as root: ${command}` : undefined,
  }));
}

async function diagnoseVirtme({ findVirtme }: Instruments): Promise<Diagnosis> {
  const common = { name: 'virtme-ng', neededFor: 'starting machines' };
  try {
    const { program, version } = await findVirtme();
    return { ...common, state: 'ok', detail: `${version}, ${program}` };
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    return { ...common, state: 'missing', detail: error.message, remedy: error.hint ?? 'make setup' };
  }
}

async function diagnoseQemu(): Promise<readonly Diagnosis[]> {
  // That it is missing is said with the packages.
  if ((await findProbe('qemu-system-x86_64')) === undefined) return [];
  const { stdout } = await exec('qemu-system-x86_64', ['--version'], { timeoutMs: VERSION_MS });
  return [judgeQemu(/version (\d+\.\d+(?:\.\d+)?)/.exec(stdout)?.[1])];
}

export function judgeQemu(version: string | undefined): Diagnosis {
  const common = { name: 'qemu', neededFor: 'the machines' };
  if (version === undefined) {
    return {
      ...common,
      state: 'warning',
      detail: 'does not say its version',
      remedy: 'qemu-system-x86_64 --version',
    };
  }
  const [major = 0, minor = 0] = version.split('.').map(Number);
  if (major > 8 || (major === 8 && minor > 0)) return { ...common, state: 'ok', detail: version };
  return {
    ...common,
    state: 'warning',
    detail: `${version}: without KVM, 8.0 and older can invent int3 oopses on several CPUs`,
    remedy: 'machines get one CPU under emulation; a newer QEMU lifts that',
  };
}

async function diagnoseKvmDevice(): Promise<Diagnosis> {
  const common = { name: '/dev/kvm', neededFor: 'speed' };
  const isThere = await stat('/dev/kvm').then(
    () => true,
    () => false,
  );
  if (!isThere) return { ...common, state: 'warning', detail: 'not there: machines are emulated' };
  try {
    await access('/dev/kvm', constants.R_OK | constants.W_OK);
    return { ...common, state: 'ok', detail: 'may be opened' };
  } catch {
    return {
      ...common,
      state: 'warning',
      detail: 'there, but this user may not open it',
      remedy: `as root: echo 'KERNEL=="kvm", GROUP="kvm", MODE="0666", OPTIONS+="static_node=kvm"' > /etc/udev/rules.d/99-kvm4all.rules && udevadm control --reload-rules && udevadm trigger --name-match=kvm`,
    };
  }
}

async function diagnoseAccelerator({ probeAccelerator }: Instruments): Promise<Diagnosis> {
  const common = { name: 'accelerator', neededFor: 'speed' };
  try {
    const { accelerator, reason } = await probeAccelerator();
    return accelerator === 'kvm'
      ? { ...common, state: 'ok', detail: 'KVM ran guest code' }
      : { ...common, state: 'warning', detail: `emulation (TCG), which is slow: ${reason}` };
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    return { ...common, state: 'missing', detail: error.message, remedy: error.hint };
  }
}

async function diagnoseDisk(): Promise<Diagnosis> {
  const place = await firstExisting(cacheDir());
  const { bavail, bsize } = await statfs(place);
  const free = bavail * bsize;
  const common = { name: 'disk', neededFor: 'kernel sources, build trees and images' };
  const detail = `${(free / 1024 ** 3).toFixed(1)} GiB free at ${place}`;
  if (free >= CACHE_ROOM) return { ...common, state: 'ok', detail };
  const remedy = 'free 10 GiB, or set FUSEGATE_CACHE to a place that has them';
  return { ...common, state: 'warning', detail, remedy };
}

async function firstExisting(path: string): Promise<string> {
  const isThere = await stat(path).then(
    () => true,
    () => false,
  );
  return isThere ? path : await firstExisting(join(path, '..'));
}
