import { existsSync } from 'node:fs';
import { mkdir, readdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { exec } from '#runner/lib/exec.ts';
import { Failure } from '#runner/lib/failure.ts';
import { sha256OfFile } from '#runner/lib/hash-file.ts';
import { noticeFullDisk } from '../cache/disk-full.ts';
import { execGuardedOrFail } from '../guarded.ts';
import { sha256OfParts } from '../cache/sha256.ts';
import { downloadsDir, lockSource, storeSource } from './source-store.ts';
import type { SourceContext, SourceTree } from './source-tree.ts';
import { unpackTarball } from './unpack.ts';

interface Archive {
  readonly version: string;
  /** A `.deb` or the tarball that an installed package left in /usr/src. */
  readonly path: string;
  readonly cached: boolean;
}

/**
 * The kernel source as Debian packages it. The installed package is used when there is one, then what was
 * downloaded before; only without either is the network asked, through the machine's own apt configuration
 * and without changing anything of it.
 *
 * @throws Failure E_SOURCE_UNAVAILABLE (infra) when apt does not have the package.
 */
export async function debianSource(name: string, context: SourceContext): Promise<SourceTree> {
  await using _lock = await lockSource(name, context);
  const archive =
    (await installed(name, context)) ?? (await downloaded(name)) ?? (await download(name, context));
  const contents = await sha256OfFile(archive.path);
  const id = sha256OfParts({ kind: 'debian-package', name, version: archive.version, contents });
  const { dir, cached } = await storeSource(id, (into) => unpackPackage(archive.path, into, name, context));
  const label = `${name} ${archive.version}`;
  return { id, label, dir, lineage: id, own: false, cached: cached && archive.cached };
}

/** `linux-source-6.12_6.12.117-1~deb12u1_all.deb` → its version; an epoch's colon is written `%3a`. */
export function versionOfDeb(file: string, name: string): string | undefined {
  const parts = /^([^_]+)_([^_]+)_[^_]+\.deb$/u.exec(file);
  return parts?.[1] === name && parts[2] !== undefined ? decodeURIComponent(parts[2]) : undefined;
}

async function installed(name: string, context: SourceContext): Promise<Archive | undefined> {
  const path = `/usr/src/${name}.tar.xz`;
  if (!existsSync(path)) return undefined;
  const query = await exec('dpkg-query', ['--show', '--showformat=${Version}', name], {
    signal: context.signal,
  });
  return query.exitCode === 0 ? { version: query.stdout.trim(), path, cached: true } : undefined;
}

async function downloaded(name: string): Promise<Archive | undefined> {
  const files = await readdir(downloadsDir()).catch(() => []);
  const found = files
    .map((file) => ({ file, version: versionOfDeb(file, name) }))
    .filter((entry): entry is { file: string; version: string } => entry.version !== undefined)
    .toSorted((a, b) => a.version.localeCompare(b.version, 'en', { numeric: true }))
    .at(-1);
  return found && { version: found.version, path: join(downloadsDir(), found.file), cached: true };
}

async function download(name: string, context: SourceContext): Promise<Archive> {
  const temp = join(downloadsDir(), `unfinished-${name}`);
  await rm(temp, { recursive: true, force: true });
  await mkdir(temp, { recursive: true });
  context.emit({ type: 'note', text: `downloading ${name} through apt (about 150 MB, once)` });
  try {
    return await noticeFullDisk(temp, async () => {
      await fetchArchive(temp, name, context);
      const file = (await readdir(temp)).find((entry) => versionOfDeb(entry, name) !== undefined);
      if (file === undefined) throw unavailable(name);
      const path = join(downloadsDir(), file);
      await rename(join(temp, file), path);
      return { version: versionOfDeb(file, name) ?? '', path, cached: false };
    });
  } finally {
    await rm(temp, { recursive: true, force: true });
  }
}

/** With the machine's own package lists; where those do not know the package, with fresh ones beside them. */
async function fetchArchive(temp: string, name: string, context: SourceContext): Promise<void> {
  const download = ['download', name];
  try {
    await apt(download, temp, context);
    return;
  } catch (error) {
    if (!(error instanceof Failure) || error.code !== 'E_SOURCE_UNAVAILABLE') throw error;
  }
  // Lists of a machine image may be months old. Refreshing them needs root and is not ours to do.
  context.emit({ type: 'note', text: `${name} is not in this machine's package lists: fetching fresh ones` });
  const lists = join(temp, 'lists');
  await mkdir(join(lists, 'partial'), { recursive: true });
  const fresh = [
    '-o',
    `Dir::State::Lists=${lists}`,
    '-o',
    'Dir::Cache::pkgcache=',
    '-o',
    'Dir::Cache::srcpkgcache=',
  ];
  await apt([...fresh, 'update'], temp, context);
  await apt([...fresh, ...download], temp, context);
  await rm(lists, { recursive: true, force: true });
}

async function apt(args: readonly string[], cwd: string, { signal }: SourceContext): Promise<void> {
  // The sandbox user _apt may not write below the user's cache; apt would warn and go on all the same.
  await execGuardedOrFail('apt-get', ['--quiet=2', '-o', 'APT::Sandbox::User=root', ...args], {
    cwd,
    signal,
    env: { LC_ALL: 'C' },
    code: 'E_SOURCE_UNAVAILABLE',
    hint: 'does `apt-get update` work on this machine? else bring a tree with --tree',
  });
}

async function unpackPackage(
  archive: string,
  into: string,
  name: string,
  context: SourceContext,
): Promise<void> {
  if (!archive.endsWith('.deb')) {
    await unpackTarball(archive, into, context.signal);
    return;
  }
  const contents = join(into, '..', 'package');
  await execGuardedOrFail('dpkg-deb', ['--extract', archive, contents], {
    signal: context.signal,
    env: { LC_ALL: 'C' },
    code: 'E_SOURCE_UNPACK',
    hint: `the package may be damaged: delete ${archive} and try again`,
  });
  await unpackTarball(join(contents, 'usr', 'src', `${name}.tar.xz`), into, context.signal);
  await rm(contents, { recursive: true, force: true });
}

function unavailable(name: string): Failure {
  return new Failure('E_SOURCE_UNAVAILABLE', 'infra', `apt did not deliver ${name}`, {
    hint: 'run `apt-get update` as root, or bring a tree with --tree',
  });
}
