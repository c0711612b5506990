import { createHash } from 'node:crypto';
import { copyFile, lstat, mkdir, readdir, readFile, readlink, realpath, rm, symlink } from 'node:fs/promises';
import { constants } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { lastLines } from '#runner/lib/exec.ts';
import { Failure } from '#runner/lib/failure.ts';
import { sha256OfParts } from '../cache/sha256.ts';
import { execGuardedOrFail } from '../guarded.ts';
import { throwIfInterrupted } from '../interruption.ts';
import { printable } from '../series/printable.ts';
import { git, isGitTree, resolveObject } from './git.ts';
import { kernelVersionOf } from './kernel-tree.ts';
import { lockSource, storeSource } from './source-store.ts';
import type { SourceContext, SourceTree } from './source-tree.ts';

/**
 * A tree of the user's own, as it stands on disk or at `ref`. It is read and never written to, its .git
 * included; what is built is a snapshot in the cache.
 *
 * @throws Failure E_TREE_INVALID (user), E_GIT_REF (user), which also is what git says of a broken index.
 */
export async function localSource(
  tree: string,
  ref: string | undefined,
  context: SourceContext,
): Promise<SourceTree> {
  const path = await realpath(tree).catch(() => tree);
  if (ref === undefined) await kernelVersionOf(path);
  const lineage = sha256OfParts({ kind: 'local', path });
  await using _lock = await lockSource(lineage, context);
  const inGit = ref !== undefined || (await isGitTree(path, context.signal));
  const snapshot = inGit ? await gitSnapshot(path, ref, context) : await plainSnapshot(path, context);
  await kernelVersionOf(snapshot.dir);
  const label = ref === undefined ? path : `${path} at ${ref}`;
  return { ...snapshot, label, lineage, own: true };
}

/**
 * A commit's files, through git's own archive: no index and no working tree is touched, and lines have the ends that
 * the repository has, whatever the user's configuration says.
 */
const archive =
  'git -c safe.directory="*" -c core.hooksPath=/dev/null -c core.autocrlf=false -c core.eol=lf -C "$1" archive --format=tar "$2" | tar -x -C "$3" --no-same-owner';

type Snapshot = Pick<SourceTree, 'id' | 'dir' | 'cached'>;

/** A commit, and on top of it what is changed in the working tree when no `ref` was named. */
async function gitSnapshot(path: string, ref: string | undefined, context: SourceContext): Promise<Snapshot> {
  const { signal } = context;
  const commit = await resolveObject(path, `${ref ?? 'HEAD'}^{commit}`, signal);
  const tree = await resolveObject(path, `${commit}^{tree}`, signal);
  const changed = ref === undefined ? await changedFiles(path, signal) : [];
  const contents = await Promise.all(changed.map((file) => digest(join(path, file))));
  const id = sha256OfParts({
    kind: 'git-tree',
    tree,
    changed: changed.map((file, index) => `${contents[index] ?? ''} ${file}`),
  });
  const stored = await storeSource(id, async (into) => {
    await execGuardedOrFail('bash', ['-o', 'pipefail', '-c', archive, 'bash', path, tree, into], {
      signal,
      env: { LC_ALL: 'C', GIT_OPTIONAL_LOCKS: '0' },
      code: 'E_SOURCE_UNPACK',
    });
    for (const file of changed) await copyEntry(path, into, file);
  });
  return { id, ...stored };
}

/** Tracked files that differ from HEAD, and untracked ones that are not ignored; deleted ones included. */
async function changedFiles(path: string, signal: AbortSignal): Promise<readonly string[]> {
  const lists = await Promise.all([
    git(path, ['diff', '--name-only', '--no-renames', '-z', 'HEAD'], { signal }),
    git(path, ['ls-files', '--others', '--exclude-standard', '-z'], { signal }),
  ]);
  const refused = lists.find(({ exitCode }) => exitCode !== 0);
  if (refused !== undefined) {
    throw new Failure('E_GIT_REF', 'user', `git cannot tell what is changed in ${path}`, {
      hint: printable(lastLines(refused.stderr, 1)),
    });
  }
  const files = lists.flatMap((list) => list.stdout.split('\0')).filter((file) => file !== '');
  return [...new Set(files)].toSorted();
}

/** What a build inside the tree leaves at its top: with it there, an out-of-tree build refuses to start. */
const buildProducts = new Set(['.config', '.git', 'include/config', 'include/generated']);

async function plainSnapshot(path: string, context: SourceContext): Promise<Snapshot> {
  const hash = createHash('sha256');
  const files: string[] = [];
  for await (const file of walk(path, path)) {
    throwIfInterrupted(context.signal);
    files.push(file);
    hash.update(`${await digest(join(path, file))} ${file}\0`);
  }
  const id = sha256OfParts({ kind: 'directory', contents: hash.digest('hex') });
  const stored = await storeSource(id, async (into) => {
    for (const file of files) {
      throwIfInterrupted(context.signal);
      await copyEntry(path, into, file);
    }
  });
  return { id, ...stored };
}

/** Files and links below `dir` relative to `root`, sorted; without what a build inside the tree left there. */
async function* walk(root: string, dir: string): AsyncGenerator<string> {
  const entries = await readdir(dir, { withFileTypes: true });
  for (const entry of entries.toSorted((a, b) => (a.name < b.name ? -1 : 1))) {
    const path = join(dir, entry.name);
    const name = relative(root, path);
    if (buildProducts.has(name) || /^arch\/[^/]+\/include\/generated$/u.test(name)) continue;
    if (entry.isDirectory()) yield* walk(root, path);
    else if (entry.isSymbolicLink() || (entry.isFile() && !/\.(?:o|a|ko|cmd)$/u.test(entry.name))) yield name;
  }
}

/** Kind, mode and contents of one entry; `gone` for one that was deleted. */
async function digest(path: string): Promise<string> {
  const stat = await lstat(path).catch(() => undefined);
  if (stat === undefined || stat.isDirectory()) return 'gone';
  const contents = stat.isSymbolicLink() ? await readlink(path) : await readFile(path);
  const kind = stat.isSymbolicLink() ? 'link' : (stat.mode & 0o100) === 0 ? 'file' : 'program';
  return `${kind} ${createHash('sha256').update(contents).digest('hex')}`;
}

async function copyEntry(from: string, to: string, file: string): Promise<void> {
  const source = join(from, file);
  const target = join(to, file);
  const stat = await lstat(source).catch(() => undefined);
  await rm(target, { force: true, recursive: true });
  if (stat === undefined || stat.isDirectory()) return;
  await mkdir(dirname(target), { recursive: true });
  if (stat.isSymbolicLink()) await symlink(await readlink(source), target);
  else await copyFile(source, target, constants.COPYFILE_FICLONE);
}
