import { glob, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { cacheDir } from '#runner/lib/paths.ts';

/** Results to keep, the last used first; one has 1 to 200 KB, and a gate of eight patches makes about thirty. */
const KEEP = 4000;

/** A gate that goes on may still ask for what it made. Milliseconds. */
const IN_USE_MS = 24 * 60 * 60 * 1000;

/** Deletes the gate's cached results that were not used for longest. @returns the deleted files. */
export async function pruneVerdicts(keep = KEEP): Promise<readonly string[]> {
  const dir = cacheDir('verdicts');
  const aged: { readonly path: string; readonly usedAt: number }[] = [];
  // Also drafts that a killed gate left: they end in its process id.
  for await (const name of glob('*/*.json*', { cwd: dir })) {
    const path = join(dir, name);
    const usedAt = (await stat(path).catch(() => undefined))?.mtimeMs;
    if (usedAt !== undefined) aged.push({ path, usedAt });
  }
  const old = aged
    .toSorted((a, b) => b.usedAt - a.usedAt)
    .slice(keep)
    .filter(({ usedAt }) => Date.now() - usedAt > IN_USE_MS);
  for (const { path } of old) await rm(path, { force: true });
  return old.map(({ path }) => path);
}
