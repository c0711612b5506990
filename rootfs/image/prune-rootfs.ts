import { readdir, rm, stat } from 'node:fs/promises';
import { cacheDir } from '#runner/lib/paths.ts';

/** Guest images to keep, the last used first; each has about 400 MB. */
const KEEP = 3;

/** Machines read their image as long as they run: one that was asked for this lately is taken as in use. */
const IN_USE_MS = 24 * 60 * 60 * 1000;

/** Deletes the guest images that were not used for longest. @returns the deleted directories. */
export async function pruneRootfs(keep = KEEP): Promise<readonly string[]> {
  const names = await readdir(cacheDir('rootfs')).catch(() => []);
  const aged: { readonly dir: string; readonly usedAt: number }[] = [];
  for (const name of names.filter((entry) => /^[0-9a-f]{32}$/.test(entry))) {
    const dir = cacheDir('rootfs', name);
    const usedAt = (await stat(cacheDir('rootfs', name, 'entry.json')).catch(() => undefined))?.mtimeMs ?? 0;
    aged.push({ dir, usedAt });
  }
  const old = aged
    .toSorted((a, b) => b.usedAt - a.usedAt)
    .slice(keep)
    .filter(({ usedAt }) => Date.now() - usedAt > IN_USE_MS);
  for (const { dir } of old) await rm(dir, { recursive: true, force: true });
  return old.map(({ dir }) => dir);
}
