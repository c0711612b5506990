import { mkdir, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { cacheDir } from '#runner/lib/paths.ts';
import { identifyProcess } from '#runner/lib/process-table.ts';

/**
 * A directory of this process in the cache, where build trees can share files with the real ones; removed by
 * disposing. What a killed benchmark left there goes first.
 */
export async function openScratch(): Promise<AsyncDisposable & { readonly dir: string }> {
  const root = cacheDir('bench');
  const dir = join(root, `run-${process.pid}`);
  await mkdir(root, { recursive: true });
  for (const name of await readdir(root)) {
    const owner = /^run-(\d+)$/.exec(name)?.[1];
    if (owner === undefined) continue;
    const alive = Number(owner) !== process.pid && (await identifyProcess(Number(owner))) !== undefined;
    if (!alive) await rm(join(root, name), { recursive: true, force: true });
  }
  await mkdir(dir);
  return { dir, [Symbol.asyncDispose]: () => rm(dir, { recursive: true, force: true }) };
}
