import { readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { BackingName } from '../../protocol/calls.ts';
import type { CallResult } from '../../protocol/syscalls.ts';
import { cString } from '../sys/memory.ts';
import { listMounts, type MountRecord } from '../sys/mount.ts';
import { syscall } from '../sys/syscall.ts';
import { backingPath } from './places.ts';
import { until } from './until.ts';

/** How each backing filesystem was mounted when the agent started: to mount it again. */
const original = new Map<BackingName, MountRecord>();

export function learnBackings(): void {
  for (const name of ['ext4', 'tmpfs'] as const) {
    const mount = listMounts().findLast(({ mountPoint }) => mountPoint === backingPath(name));
    if (mount !== undefined) original.set(name, mount);
  }
}

function isMounted(name: BackingName): boolean {
  return listMounts().some(({ mountPoint }) => mountPoint === backingPath(name));
}

/** EBUSY is the answer that matters: something still holds a file of it. */
export function umountBacking(name: BackingName): Promise<CallResult<number>> {
  return syscall('umount2', cString(backingPath(name)), 0);
}

export async function mountBacking(name: BackingName): Promise<CallResult<number>> {
  const how = original.get(name);
  if (how === undefined) return { errno: 'ENODEV' };
  if (isMounted(name)) return { value: 0 };
  return mountAgain(name, how);
}

function mountAgain(name: BackingName, how: MountRecord): Promise<CallResult<number>> {
  const strings = [cString(how.source), cString(backingPath(name)), cString(how.type)] as const;
  return syscall('mount', ...strings, 0, null);
}

/**
 * Does anything still hold the backing filesystem? It is unmounted and mounted again, which only works when
 * no file of it is open anywhere, not even inside the kernel. The last references go through a work queue, so
 * that EBUSY counts only when it stays.
 */
export async function isBackingBusy(name: BackingName, deadlineMs: number): Promise<boolean | null> {
  const how = original.get(name);
  if (how === undefined) return null;
  const unmounts = async (): Promise<boolean> => {
    const result = await umountBacking(name);
    // EINVAL: a test has unmounted it itself.
    return !('errno' in result) || result.errno === 'EINVAL';
  };
  if (!(await until(unmounts, deadlineMs))) return true;
  return 'errno' in (await mountAgain(name, how));
}

/** Removes what tests have put there. */
export function emptyBacking(name: BackingName): void {
  for (const entry of readdirSync(backingPath(name))) {
    if (entry !== 'lost+found') rmSync(join(backingPath(name), entry), { recursive: true, force: true });
  }
}
