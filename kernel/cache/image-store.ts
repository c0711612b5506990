import { copyFile, mkdir, readFile, rename, rm, utimes, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { z } from 'zod';
import { cacheDir } from '#runner/lib/paths.ts';
import { sha256OfFile } from '#runner/lib/hash-file.ts';
import { parseJson } from '#runner/lib/json.ts';
import type { BuiltKernel } from '../build/build-kernel.ts';
import { noticeFullDisk } from './disk-full.ts';

const Entry = z.strictObject({
  format: z.literal(1),
  key: z.string(),
  release: z.string(),
  /** Name → sha256 of every other file of the entry. */
  files: z.strictObject({ bzImage: z.string(), config: z.string(), vmlinux: z.string() }),
});

export interface StoredImage {
  readonly dir: string;
  readonly release: string;
  readonly imageSha256: string;
}

export type Lookup =
  | { readonly state: 'present'; readonly image: StoredImage }
  | { readonly state: 'absent' }
  /** Something is there that is not what was stored. */
  | { readonly state: 'damaged'; readonly reason: string };

export function imageDir(key: string): string {
  return cacheDir('kernels', key);
}

/** Looks an image up and reads all of it: a damaged one is told from a good one before it is booted. */
export async function findImage(key: string): Promise<Lookup> {
  const dir = imageDir(key);
  let text: string;
  try {
    text = await readFile(join(dir, 'entry.json'), 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    const exists = await readFile(join(dir, 'bzImage')).then(
      () => true,
      () => false,
    );
    return exists ? { state: 'damaged', reason: 'entry.json is missing' } : { state: 'absent' };
  }
  const entry = Entry.safeParse(parseJson(text));
  if (!entry.success || entry.data.key !== key) return { state: 'damaged', reason: 'entry.json is torn' };
  for (const [name, want] of Object.entries(entry.data.files)) {
    const got = await sha256OfFile(join(dir, name)).catch(() => undefined);
    if (got !== want) {
      return {
        state: 'damaged',
        reason: `${name} ${got === undefined ? 'is missing' : 'has other contents'}`,
      };
    }
  }
  // The time of last use, for pruning.
  await utimes(join(dir, 'entry.json'), new Date(), new Date()).catch(() => undefined);
  return {
    state: 'present',
    image: { dir, release: entry.data.release, imageSha256: entry.data.files.bzImage },
  };
}

/** Stores a build under `key` in one step: a reader sees all of it or nothing. The caller holds the key's lock. */
export async function storeImage(key: string, built: BuiltKernel): Promise<StoredImage> {
  const dir = imageDir(key);
  await mkdir(dirname(dir), { recursive: true });
  return noticeFullDisk(dir, async () => {
    // Named for the key, so that the next run finds what a killed one left.
    const unfinished = join(dirname(dir), `unfinished-${key}`);
    await rm(unfinished, { recursive: true, force: true });
    await mkdir(unfinished);
    try {
      await copyFile(built.bzImage, join(unfinished, 'bzImage'));
      await copyFile(built.config, join(unfinished, 'config'));
      await copyFile(built.vmlinux, join(unfinished, 'vmlinux'));
      const files = {
        bzImage: await sha256OfFile(join(unfinished, 'bzImage')),
        config: await sha256OfFile(join(unfinished, 'config')),
        vmlinux: await sha256OfFile(join(unfinished, 'vmlinux')),
      };
      const entry: z.infer<typeof Entry> = { format: 1, key, release: built.release, files };
      await writeFile(join(unfinished, 'entry.json'), `${JSON.stringify(entry, null, 2)}\n`);
      await rm(dir, { recursive: true, force: true });
      await rename(unfinished, dir);
      return { dir, release: built.release, imageSha256: files.bzImage };
    } catch (error) {
      await rm(unfinished, { recursive: true, force: true });
      throw error;
    }
  });
}
