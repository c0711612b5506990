import { readdir, rm, stat } from 'node:fs/promises';
import { cacheDir } from './paths.ts';

export interface PruneRule {
  /** Folder of the cache with entries of `storeEntry`. */
  readonly area: string;
  /** Entries to keep, the last used first. */
  readonly keep: number;
  /** An entry that was asked for this lately is taken as in use. Milliseconds. */
  readonly inUseMs: number;
}

/** Deletes the entries that were not used for longest. @returns the deleted directories. */
export async function pruneEntries({ area, keep, inUseMs }: PruneRule): Promise<readonly string[]> {
  const names = await readdir(cacheDir(area)).catch(() => []);
  const aged: { readonly dir: string; readonly usedAt: number }[] = [];
  for (const name of names.filter((entry) => /^[0-9a-f]{32}$/.test(entry))) {
    const dir = cacheDir(area, name);
    const usedAt = (await stat(cacheDir(area, name, 'entry.json')).catch(() => undefined))?.mtimeMs ?? 0;
    aged.push({ dir, usedAt });
  }
  const old = aged
    .toSorted((a, b) => b.usedAt - a.usedAt)
    .slice(keep)
    .filter(({ usedAt }) => Date.now() - usedAt > inUseMs);
  for (const { dir } of old) await rm(dir, { recursive: true, force: true });
  return old.map(({ dir }) => dir);
}
