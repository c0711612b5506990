import { lstat, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { acquireLock } from '#runner/lib/file-lock.ts';
import { cacheDir } from '#runner/lib/paths.ts';

/** What of the cache is the kernels'; the rest belongs to the guest image and to runs. */
const areas = ['kernels', 'build', 'sources', 'downloads', 'ccache'] as const;

export interface PruneLimits {
  /** Images to keep, the last used first. */
  readonly kernels: number;
  /** Build trees to keep; each has a few hundred megabytes of objects. */
  readonly buildTrees: number;
  /** Unpacked sources to keep, 1.5 GB each. */
  readonly sources: number;
}

export const defaultLimits: PruneLimits = { kernels: 24, buildTrees: 6, sources: 4 };

/** Sources have no lock while they are read: one that was asked for this lately is taken as in use. */
const inUseMs = 60 * 60 * 1000;

/**
 * Deletes what was not used for longest, beyond the limits. What another run holds the lock of stays.
 *
 * @returns The deleted paths.
 */
export async function pruneCache(
  signal: AbortSignal,
  limits: PruneLimits = defaultLimits,
): Promise<readonly string[]> {
  return [
    ...(await pruneArea('kernels', 'kernel', 'entry.json', limits.kernels, signal)),
    ...(await pruneArea('build', 'build', 'state.json', limits.buildTrees, signal)),
    ...(await pruneArea('sources', undefined, '.', limits.sources, signal)),
  ];
}

/** Deletes all that the kernel part has in the cache; for `fusegate clean`, with no run going on. */
export async function cleanCache(): Promise<readonly string[]> {
  const deleted: string[] = [];
  for (const area of [...areas, 'locks'] as const) {
    const path = cacheDir(area);
    if ((await modified(path)) === undefined) continue;
    await rm(path, { recursive: true, force: true });
    deleted.push(path);
  }
  return deleted;
}

/** Content keys only: should the cache share its directory with something else, that is left alone. */
function isKey(name: string): boolean {
  return /^[0-9a-f]{32,64}$/.test(name);
}

async function pruneArea(
  area: string,
  lockKind: string | undefined,
  witness: string,
  keep: number,
  signal: AbortSignal,
): Promise<readonly string[]> {
  const names = await readdir(cacheDir(area)).catch(() => []);
  const aged: { name: string; usedAt: number }[] = [];
  for (const name of names.filter(isKey)) {
    const usedAt = await modified(join(cacheDir(area), name, witness));
    if (usedAt !== undefined) aged.push({ name, usedAt });
  }
  const old = aged
    .toSorted((a, b) => b.usedAt - a.usedAt)
    .slice(keep)
    .filter(({ usedAt }) => lockKind !== undefined || Date.now() - usedAt > inUseMs);
  const deleted: string[] = [];
  for (const { name } of old) {
    const path = cacheDir(area, name);
    if (lockKind === undefined) await rm(path, { recursive: true, force: true });
    else if (!(await removeUnlessBusy(path, cacheDir('locks', `${lockKind}-${name}`), signal))) continue;
    deleted.push(path);
  }
  return deleted;
}

async function removeUnlessBusy(path: string, lockPath: string, signal: AbortSignal): Promise<boolean> {
  const impatience = new AbortController();
  try {
    await using _held = await acquireLock(lockPath, {
      signal: AbortSignal.any([signal, impatience.signal]),
      onWait: () => impatience.abort(),
    });
    await rm(path, { recursive: true, force: true });
    return true;
  } catch (error) {
    if (impatience.signal.aborted) return false;
    throw error;
  }
}

async function modified(path: string): Promise<number | undefined> {
  return lstat(path).then(
    (stat) => stat.mtimeMs,
    () => undefined,
  );
}
