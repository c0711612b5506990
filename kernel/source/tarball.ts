import { createWriteStream, existsSync } from 'node:fs';
import { mkdir, rename, rm } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { ReadableStream } from 'node:stream/web';
import { fileURLToPath } from 'node:url';
import { Failure } from '#runner/lib/failure.ts';
import { sha256OfFile } from '#runner/lib/hash-file.ts';
import { noticeFullDisk } from '../cache/disk-full.ts';
import { sha256OfParts } from '../cache/sha256.ts';
import { throwIfInterrupted } from '../interruption.ts';
import type { Tarball } from '../profile.ts';
import { downloadsDir, lockSource, storeSource } from './source-store.ts';
import type { SourceContext, SourceTree } from './source-tree.ts';
import { unpackTarball } from './unpack.ts';

/**
 * A tarball from the network or a local file; used only when its sha256 is the one that was asked for.
 *
 * @throws Failure E_SOURCE_UNAVAILABLE (infra), E_SOURCE_CHECKSUM (infra) with both sums.
 */
export async function tarballSource(tarball: Tarball, context: SourceContext): Promise<SourceTree> {
  await using _lock = await lockSource(tarball.sha256, context);
  const id = sha256OfParts({ kind: 'tarball', contents: tarball.sha256 });
  let fetched = false;
  const { dir, cached } = await storeSource(id, async (into) => {
    const archive = await localArchive(tarball, context);
    fetched = archive.fetched;
    await unpackTarball(archive.path, into, context.signal);
  });
  return {
    id,
    label: basename(tarball.url),
    dir,
    lineage: id,
    own: false,
    cached: cached && !fetched,
  };
}

async function localArchive(
  tarball: Tarball,
  context: SourceContext,
): Promise<{ readonly path: string; readonly fetched: boolean }> {
  if (!/^https?:/u.test(tarball.url)) {
    const path = tarball.url.startsWith('file:') ? fileURLToPath(tarball.url) : tarball.url;
    if (!existsSync(path)) throw unavailable(tarball.url);
    await verify(path, tarball);
    return { path, fetched: false };
  }
  const path = join(downloadsDir(), `${tarball.sha256.slice(0, 16)}-${basename(tarball.url)}`);
  if (existsSync(path)) return { path, fetched: false };
  await mkdir(downloadsDir(), { recursive: true });
  const unfinished = `${path}.unfinished`;
  try {
    await noticeFullDisk(path, () => download(tarball.url, unfinished, context));
    await verify(unfinished, tarball);
    await rename(unfinished, path);
  } finally {
    await rm(unfinished, { force: true });
  }
  return { path, fetched: true };
}

async function download(url: string, to: string, context: SourceContext): Promise<void> {
  context.emit({ type: 'note', text: `downloading ${url} (about 150 MB, once)` });
  try {
    const response = await fetch(url, { signal: context.signal });
    if (!response.ok || response.body === null) throw unavailable(url, `HTTP ${response.status}`);
    const body = Readable.fromWeb(response.body as ReadableStream<Uint8Array>);
    await pipeline(body, createWriteStream(to), { signal: context.signal });
  } catch (error) {
    throwIfInterrupted(context.signal);
    if (error instanceof Failure) throw error;
    if ((error as NodeJS.ErrnoException).code === 'ENOSPC') throw error;
    throw unavailable(url, error instanceof Error ? error.message : String(error), error);
  }
}

async function verify(path: string, tarball: Tarball): Promise<void> {
  const got = await sha256OfFile(path);
  if (got === tarball.sha256) return;
  throw new Failure(
    'E_SOURCE_CHECKSUM',
    'infra',
    `${tarball.url} has sha256 ${got}, not ${tarball.sha256} as the profile says`,
    { hint: 'the download may have been cut or replaced: try again, or correct the profile' },
  );
}

function unavailable(url: string, why?: string, cause?: unknown): Failure {
  const detail = why === undefined ? '' : `: ${why}`;
  return new Failure('E_SOURCE_UNAVAILABLE', 'infra', `the kernel tarball ${url} is not there${detail}`, {
    hint: 'check the network, or bring a tree with --tree',
    cause,
  });
}
