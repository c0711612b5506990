import { existsSync } from 'node:fs';
import { mkdir, rename, rm, utimes } from 'node:fs/promises';
import { join } from 'node:path';
import { acquireLock } from '#runner/lib/file-lock.ts';
import { cacheDir } from '#runner/lib/paths.ts';
import { noticeFullDisk } from '../cache/disk-full.ts';
import type { SourceContext } from './source-tree.ts';

export function downloadsDir(): string {
  return cacheDir('downloads');
}

export function sourceDir(id: string): string {
  return cacheDir('sources', id, 'tree');
}

/** One at a time over all processes: downloads and unpacking of `name`. */
export async function lockSource(name: string, context: SourceContext): Promise<AsyncDisposable> {
  return acquireLock(cacheDir('locks', `source-${name}`), {
    signal: context.signal,
    onWait: (owner) => {
      const who = owner === undefined ? 'another run' : `process ${owner}`;
      context.emit({ type: 'note', text: `waiting for ${who}, which fetches the same kernel source` });
    },
  });
}

/**
 * The pristine tree for `id`: what `unpack` writes into an empty directory, renamed into place when it is whole.
 * The caller holds the source's lock.
 */
export async function storeSource(
  id: string,
  unpack: (into: string) => Promise<void>,
): Promise<{ readonly dir: string; readonly cached: boolean }> {
  const dir = sourceDir(id);
  const parent = cacheDir('sources', id);
  if (existsSync(dir)) {
    // The time of last use, for pruning.
    await utimes(parent, new Date(), new Date());
    return { dir, cached: true };
  }
  const unfinished = join(parent, 'unfinished');
  await noticeFullDisk(parent, async () => {
    await rm(unfinished, { recursive: true, force: true });
    await mkdir(unfinished, { recursive: true });
    try {
      await unpack(unfinished);
      await rename(unfinished, dir);
    } catch (error) {
      await rm(parent, { recursive: true, force: true });
      throw error;
    }
  });
  return { dir, cached: false };
}
