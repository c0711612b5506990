import { constants } from 'node:fs';
import {
  copyFile,
  lstat,
  mkdir,
  readdir,
  readFile,
  readlink,
  rename,
  rm,
  symlink,
  writeFile,
} from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { z } from 'zod';
import { Failure } from '#runner/lib/failure.ts';
import { cacheDir } from '#runner/lib/paths.ts';
import { sha256OfFile } from '#runner/lib/hash-file.ts';
import { execGuarded, execGuardedOrFail } from '../guarded.ts';
import { throwIfInterrupted } from '../interruption.ts';
import type { PatchedFiles } from '../series/apply.ts';
import type { SourceTree } from '../source/source-tree.ts';

/** Directly below the source, so that kbuild uses relative paths; no kernel has a directory of this name. */
const objectsName = 'fusegate-objects';

const State = z.strictObject({
  /** The source it is a copy of; `null` while it is being brought to another one. */
  sourceId: z.string().nullable(),
  /** Files that may differ from that source: those of the series applied now. */
  touched: z.array(z.string()),
  /** make is at work, or was when its run died: objects may be half written. */
  building: z.boolean(),
  /** sha256 of the .config that was made of exactly these Kconfig files; `null` when it must be made anew. */
  configured: z.string().nullable(),
  /** Compile and link steps of the last complete build from nothing. */
  steps: z.number().optional(),
});
type State = z.infer<typeof State>;

/**
 * A patched source tree with its objects, kept from run to run so that a changed patch costs only the objects
 * that depend on it. Files are rewritten only when their contents differ, with a new time of change, and make
 * decides what follows. The caller holds the tree's lock for as long as it uses this.
 */
export interface BuildTree {
  readonly source: string;
  readonly objects: string;
  /** Steps to expect when building from nothing; `undefined` when unknown or when objects are there. */
  readonly expectedSteps: number | undefined;
  /** There are no objects yet. */
  readonly fresh: boolean;
  /** Runs make in between: until it has returned the objects count as half written. */
  building<T>(work: () => Promise<T>): Promise<T>;
  recordSteps(steps: number): Promise<void>;
  /** The .config is the one that `recordConfig` saw, and nothing that it depends on has changed since. */
  isConfigured(): Promise<boolean>;
  recordConfig(): Promise<void>;
}

export function buildTreePaths(key: string): Pick<BuildTree, 'source' | 'objects'> {
  const source = cacheDir('build', key, 'source');
  return { source, objects: join(source, objectsName) };
}

/** Removes what was built, so that the next build is one from nothing. The caller holds the tree's lock. */
export async function dropObjects(key: string): Promise<void> {
  await rm(buildTreePaths(key).objects, { recursive: true, force: true });
}

/** Brings the build tree `key` to `source` with `patched` over it. */
export async function openBuildTree(
  key: string,
  source: SourceTree,
  patched: PatchedFiles | undefined,
  signal: AbortSignal,
): Promise<BuildTree> {
  const dir = cacheDir('build', key);
  const { source: tree, objects } = buildTreePaths(key);
  let state = await readState(dir);
  if (state === undefined) {
    await rm(dir, { recursive: true, force: true });
    await linkTree(source.dir, tree, signal);
    state = { sourceId: source.id, touched: [], building: false, configured: null };
  }
  if (state.building) await rm(objects, { recursive: true, force: true });
  const wanted = (file: string): string =>
    patched?.files.includes(file) === true ? join(patched.dir, file) : join(source.dir, file);
  const sameSource = state.sourceId === source.id;
  const series = patched?.files ?? [];
  const candidates = sameSource
    ? new Set([...state.touched, ...series])
    : new Set([...(await filesOf(tree)), ...(await filesOf(source.dir)), ...series]);
  const configured = (await anyChanges(candidates, tree, wanted)) ? null : state.configured;
  // Whoever finds this state after a crash knows what may be half done.
  await writeState(dir, {
    ...state,
    sourceId: sameSource ? source.id : null,
    touched: sameSource ? [...candidates] : [],
    configured,
  });
  for (const file of candidates) {
    throwIfInterrupted(signal);
    await bringTo(join(tree, file), wanted(file));
  }
  state = { ...state, sourceId: source.id, touched: [...series], building: false, configured };
  await writeState(dir, state);
  await mkdir(objects, { recursive: true });
  const fresh = (await readdir(objects)).length === 0;
  return buildTree(dir, signal, state, {
    source: tree,
    objects,
    fresh,
    expectedSteps: fresh ? state.steps : undefined,
  });
}

function buildTree(
  dir: string,
  signal: AbortSignal,
  initial: State,
  paths: Pick<BuildTree, 'source' | 'objects' | 'expectedSteps' | 'fresh'>,
): BuildTree {
  let state = initial;
  return {
    ...paths,
    async building(work) {
      await writeState(dir, { ...state, building: true });
      try {
        const value = await work();
        await writeState(dir, state);
        return value;
      } catch (error) {
        if (leftWholeObjects(error) && !signal.aborted) await writeState(dir, state);
        throw error;
      }
    },
    async isConfigured() {
      return state.configured !== null && state.configured === (await sumOf(join(paths.objects, '.config')));
    },
    async recordConfig() {
      state = { ...state, configured: (await sumOf(join(paths.objects, '.config'))) ?? null };
      await writeState(dir, state);
    },
    async recordSteps(steps) {
      state = { ...state, steps };
      await writeState(dir, state);
    },
  };
}

/** Files that can change what `make tinyconfig olddefconfig` writes; for the same compiler nothing else can. */
function isConfigInput(file: string): boolean {
  return /(?:^|\/)(?:Kconfig|Makefile|Kbuild)[^/]*$|\.config$|defconfig$|^scripts\//u.test(file);
}

async function sumOf(path: string): Promise<string | undefined> {
  return sha256OfFile(path).catch(() => undefined);
}

/** After an error in the source make has returned by itself, and removed what it could not finish. */
function leftWholeObjects(error: unknown): boolean {
  return error instanceof Failure && ['E_BUILD_FAILED', 'E_CONFIG_UNMET'].includes(error.code);
}

/** Whether what the configuration depends on will be another. A series keeps its Makefile from patch to patch. */
async function anyChanges(
  candidates: Iterable<string>,
  tree: string,
  wanted: (file: string) => string,
): Promise<boolean> {
  for (const file of candidates) {
    if (!isConfigInput(file)) continue;
    const [source, target] = [wanted(file), join(tree, file)];
    if (!(await isSame(source, target, await entry(source), await entry(target)))) return true;
  }
  return false;
}

/** A copy that shares the files, which takes seconds instead of minutes; nobody writes into a file of it. */
async function linkTree(from: string, to: string, signal: AbortSignal): Promise<void> {
  await mkdir(dirname(to), { recursive: true });
  const unfinished = `${to}.unfinished`;
  const linked = await execGuarded('cp', ['--archive', '--link', '--', from, unfinished], {
    signal,
    env: { LC_ALL: 'C' },
  });
  if (linked.exitCode !== 0) {
    await rm(unfinished, { recursive: true, force: true });
    await execGuardedOrFail('cp', ['--archive', '--reflink=auto', '--', from, unfinished], {
      signal,
      env: { LC_ALL: 'C' },
    });
  }
  await rename(unfinished, to);
}

/** Makes `target` what `source` is, unless it is so already; a source that is not there means to delete. */
async function bringTo(target: string, source: string): Promise<void> {
  const [want, have] = await Promise.all([entry(source), entry(target)]);
  if (await isSame(source, target, want, have)) return;
  await rm(target, { recursive: true, force: true });
  if (want === undefined) return;
  await mkdir(dirname(target), { recursive: true });
  if (want.isSymbolicLink()) await symlink(await readlink(source), target);
  else await copyFile(source, target, constants.COPYFILE_FICLONE);
}

type Entry = NonNullable<Awaited<ReturnType<typeof entry>>>;

async function entry(path: string) {
  const stat = await lstat(path).catch(() => undefined);
  return stat === undefined || stat.isDirectory() ? undefined : stat;
}

async function isSame(
  source: string,
  target: string,
  want: Entry | undefined,
  have: Entry | undefined,
): Promise<boolean> {
  if (want === undefined || have === undefined) return want === have;
  if (want.ino === have.ino && want.dev === have.dev) return true;
  if (want.mode !== have.mode || want.size !== have.size) return false;
  if (want.isSymbolicLink()) return (await readlink(source)) === (await readlink(target));
  const [a, b] = await Promise.all([readFile(source), readFile(target)]);
  return a.equals(b);
}

async function filesOf(dir: string, below = ''): Promise<readonly string[]> {
  const found: string[] = [];
  for (const item of await readdir(join(dir, below), { withFileTypes: true })) {
    const path = join(below, item.name);
    if (path === objectsName) continue;
    if (item.isDirectory()) found.push(...(await filesOf(dir, path)));
    else found.push(path);
  }
  return found;
}

async function readState(dir: string): Promise<State | undefined> {
  try {
    const parsed = State.safeParse(JSON.parse(await readFile(join(dir, 'state.json'), 'utf8')));
    return parsed.data;
  } catch {
    // Not there, or torn by a full disk: the tree is made anew.
    return undefined;
  }
}

async function writeState(dir: string, state: State): Promise<void> {
  const path = join(dir, 'state.json');
  await writeFile(`${path}.new`, JSON.stringify(state));
  await rename(`${path}.new`, path);
}
