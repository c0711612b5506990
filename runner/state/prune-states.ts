import { readdir, rm, stat } from 'node:fs/promises';
import { cacheDir } from '#runner/lib/paths.ts';

/** Saved machines to keep, the last used first; each has about 200 MB. */
const KEEP = 8;
/** Machines read their state while they are restored: one that was asked for this lately may be in use. */
const IN_USE_MS = 60 * 60 * 1000;

/** Deletes the saved machines that were not used for longest. @returns the deleted directories. */
export async function pruneStates(keep = KEEP): Promise<readonly string[]> {
  const names = await readdir(cacheDir('states')).catch(() => []);
  const aged: { readonly dir: string; readonly usedAt: number }[] = [];
  for (const name of names.filter((entry) => /^[0-9a-f]{32}$/.test(entry))) {
    const usedAt = (await stat(cacheDir('states', name, 'entry.json')).catch(() => undefined))?.mtimeMs ?? 0;
    aged.push({ dir: cacheDir('states', name), usedAt });
  }
  const old = aged
    .toSorted((a, b) => b.usedAt - a.usedAt)
    .slice(keep)
    .filter(({ usedAt }) => Date.now() - usedAt > IN_USE_MS);
  for (const { dir } of old) await rm(dir, { recursive: true, force: true });
  return old.map(({ dir }) => dir);
}
