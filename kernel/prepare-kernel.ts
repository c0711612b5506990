import { mkdir, rm } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { acquireLock } from '#runner/lib/file-lock.ts';
import type { Emit } from '#runner/lib/events.ts';
import { Failure, type Blame } from '#runner/lib/failure.ts';
import { cacheDir } from '#runner/lib/paths.ts';
import { runStage } from '#runner/lib/stage.ts';
import { buildTreePaths, dropObjects, openBuildTree, type BuildTree } from './build/build-tree.ts';
import { buildKernel } from './build/build-kernel.ts';
import { compileForWarnings, type CompilerWarning } from './build/extra-warnings.ts';
import { findToolchain, requireBuildTools, type Toolchain } from './build/compiler.ts';
import { makeVariables, type MakeOptions } from './build/make.ts';
import { noticeFullDisk } from './cache/disk-full.ts';
import { findImage, storeImage, type StoredImage } from './cache/image-store.ts';
import { sha256OfParts } from './cache/sha256.ts';
import { configure } from './config/configure.ts';
import { ownFragments, profileFragments } from './config/load-fragments.ts';
import { formatWishes, mergeFragments, overridden, type Wishes } from './config/merge.ts';
import type { KernelImage } from './kernel-image.ts';
import type { Profile } from './profile.ts';
import { readyKernel } from './ready-kernel.ts';
import { applySeries, type PatchedFiles } from './series/apply.ts';
import { requestedSeries } from './series/requested-series.ts';
import type { Series } from './series/series.ts';
import { resolveSource } from './source/resolve-source.ts';
import type { SourceTree } from './source/source-tree.ts';

export interface KernelRequest {
  readonly profile: Profile;
  /** Path, or with `tree` a git range; instead of the profile's own series. */
  readonly series?: string | undefined;
  /** The series itself, read before, for who builds several kernels of it; `ref` then says where it starts. */
  readonly loaded?: Series | undefined;
  /** Apply only the first so many patches of the series. */
  readonly patches?: number | undefined;
  /** A kernel tree of the user's own; never written to. */
  readonly tree?: string | undefined;
  /** Commit of `tree` to build, instead of what lies in it. */
  readonly ref?: string | undefined;
  /** A ready bzImage: nothing is built. */
  readonly kernel?: string | undefined;
  /** Paths of config fragments on top of the profile's. */
  readonly fragments: readonly string[];
  /** `base` is the source without the series. */
  readonly role: 'base' | 'patched';
  /** Keep the worktree with the patched files below `out`. */
  readonly keep?: boolean | undefined;
  /** Build from nothing instead of from what an earlier build left. */
  readonly fresh?: boolean | undefined;
}

export interface KernelContext {
  readonly emit: Emit;
  readonly signal: AbortSignal;
  /** Directory of the run, for logs and evidence. */
  readonly out: string;
  /** Sources found before, by what was asked for: several kernels of one tree shall start from the same files. */
  readonly sources?: Map<string, SourceTree> | undefined;
}

/** All that decides what the image will be, before anything is built. */
interface Plan {
  readonly request: KernelRequest;
  readonly series: Series | undefined;
  readonly source: SourceTree;
  readonly wishes: Wishes;
  readonly toolchain: Toolchain;
  readonly key: string;
  readonly blame: Blame;
}

/**
 * The kernel that a request asks for, from the cache or built: stages source, apply, config and build.
 * Two runs that want the same image build it once.
 *
 * @throws Failure of every kind that docs/errors.md lists under “kernel”.
 */
export async function prepareKernel(request: KernelRequest, context: KernelContext): Promise<KernelImage> {
  await mkdir(context.out, { recursive: true });
  if (request.kernel !== undefined) return readyImage(request, request.kernel);
  const plan = await makePlan(request, context);
  await using _lock = await lockFor('kernel', plan.key, 'builds the same kernel', context);
  const found = await findImage(plan.key);
  if (found.state === 'damaged') {
    const text = `the cached kernel ${plan.key.slice(0, 12)} is damaged (${found.reason}): building it again`;
    context.emit({ type: 'note', text });
  }
  const stored =
    found.state === 'present' ? await reuse(plan, found.image, context) : await build(plan, context);
  return imageOf(plan, stored);
}

async function makePlan(request: KernelRequest, context: KernelContext): Promise<Plan> {
  const { profile } = request;
  const [own, ofProfile] = [await ownFragments(request.fragments), await profileFragments(profile.fragments)];
  const wishes = mergeFragments(ofProfile, own);
  for (const symbol of overridden(ofProfile, own)) {
    context.emit({ type: 'note', text: `CONFIG_${symbol} of the profile is overridden by a fragment` });
  }
  const { series, ref } = await requestedSeries(request, context.signal);
  const toolchain = await findToolchain(context.signal);
  const source = await runStage(context.emit, { stage: 'source', title: sourceTitle(request) }, async () => {
    const name = JSON.stringify([profile.name, request.tree, ref]);
    const value =
      context.sources?.get(name) ?? (await resolveSource({ profile, tree: request.tree, ref }, context));
    context.sources?.set(name, value);
    return { value, cached: value.cached, detail: value.label };
  });
  const key = sha256OfParts({
    source: source.id,
    series: series?.fingerprint ?? '',
    config: formatWishes(wishes),
    make: makeVariables(toolchain),
    compiler: toolchain.identity,
  });
  const blame: Blame = series !== undefined || source.own ? 'series' : 'infra';
  return { request, series, source, wishes, toolchain, key, blame };
}

/** The stages of an image that is there: said, not done. */
async function reuse(plan: Plan, image: StoredImage, context: KernelContext): Promise<StoredImage> {
  const { emit } = context;
  const cached = () => Promise.resolve({ value: undefined, cached: true });
  await runStage(emit, { stage: 'apply', title: applyTitle(plan.series) }, cached);
  await runStage(emit, { stage: 'config', title: configTitle(plan) }, cached);
  return runStage(emit, { stage: 'build', title: 'kernel' }, () =>
    Promise.resolve({ value: image, cached: true, detail: `${image.release} ${plan.key.slice(0, 12)}` }),
  );
}

async function build(plan: Plan, context: KernelContext): Promise<StoredImage> {
  const { request, toolchain } = plan;
  const { emit, signal } = context;
  const patched = await applyStage(plan, context);
  const treeKey = treeKeyOf(plan);
  await requireBuildTools(signal);
  await using _lock = await lockFor('build', treeKey, 'uses the same build tree', context);
  const options = (tree: BuildTree, log: string): MakeOptions => ({ ...tree, toolchain, log, signal });
  const configLog = join(context.out, `config-${request.role}.log`);
  const tree = await runStage(emit, { stage: 'config', title: configTitle(plan), log: configLog }, () =>
    noticeFullDisk(cacheDir('build'), async () => {
      if (request.fresh === true) await dropObjects(treeKey);
      const value = await openBuildTree(treeKey, plan.source, patched, signal);
      if (await value.isConfigured()) return { value, cached: true };
      const symbols = await value.building(() =>
        configure(plan.wishes, plan.blame, options(value, configLog)),
      );
      await value.recordConfig();
      return { value, cached: false, detail: `${symbols} symbols built in` };
    }),
  );
  if (patched !== undefined && request.keep !== true) await rm(patched.dir, { recursive: true, force: true });
  const log = join(context.out, `build-${request.role}.log`);
  return await runStage(emit, { stage: 'build', title: 'kernel', log }, async () => {
    const built = await tree.building(() =>
      buildKernel(withEstimate(tree, request.profile), plan.blame, emit, options(tree, log)),
    );
    if (tree.fresh) await tree.recordSteps(built.steps);
    const value = await storeImage(plan.key, built);
    return { value, cached: false, detail: `${built.release}, ${built.steps} objects` };
  });
}

function treeKeyOf({ source, wishes, toolchain }: Plan): string {
  return sha256OfParts({
    lineage: source.lineage,
    config: formatWishes(wishes),
    compiler: toolchain.identity,
  });
}

/** Where a source lies that nobody has patched, for its own scripts. */
export async function pristineSource(request: KernelRequest, context: KernelContext): Promise<string> {
  const quiet: KernelContext = { ...context, emit: () => undefined };
  return (await makePlan(request, quiet)).source.dir;
}

/** Where a request is built, for who wants to measure it. */
export interface BuildPlace {
  /** The pristine source; never written to. */
  readonly pristine: string;
  /** The patched source that is built, with its objects in `objects` below. */
  readonly source: string;
  readonly objects: string;
  readonly toolchain: Toolchain;
  /** Keeps every run out of the build tree until it is disposed. */
  lock(): Promise<AsyncDisposable>;
}

/** @throws Failure as prepareKernel does for its sources. */
export async function findBuildPlace(request: KernelRequest, context: KernelContext): Promise<BuildPlace> {
  const plan = await makePlan(request, context);
  const treeKey = treeKeyOf(plan);
  return {
    pristine: plan.source.dir,
    ...buildTreePaths(treeKey),
    toolchain: plan.toolchain,
    lock: () => lockFor('build', treeKey, 'uses the same build tree', context),
  };
}

/**
 * What the compiler says with W=1 about `files` as the request has them. Right after `prepareKernel` of the same
 * request it costs their compilation; the objects of the build stay as they are.
 */
export async function kernelWarnings(
  request: KernelRequest,
  files: readonly string[],
  context: KernelContext,
): Promise<readonly CompilerWarning[]> {
  const quiet: KernelContext = { ...context, emit: () => undefined };
  const plan = await makePlan(request, quiet);
  const treeKey = treeKeyOf(plan);
  await using _lock = await lockFor('build', treeKey, 'uses the same build tree', context);
  const patched = await applyStage(plan, quiet);
  const tree = await openBuildTree(treeKey, plan.source, patched, context.signal);
  if (patched !== undefined) await rm(patched.dir, { recursive: true, force: true });
  return await compileForWarnings(files, tree, context.signal);
}

/** Until a tree has counted its own steps, the profile's figure stands in. */
function withEstimate(tree: BuildTree, profile: Profile): BuildTree {
  if (!tree.fresh) return tree;
  return { ...tree, expectedSteps: tree.expectedSteps ?? profile.buildSteps };
}

async function applyStage(plan: Plan, context: KernelContext): Promise<PatchedFiles | undefined> {
  const { series, source } = plan;
  return runStage(context.emit, { stage: 'apply', title: applyTitle(series) }, async () => {
    if (series === undefined) return { value: undefined, cached: true };
    const value = await applySeries(series, {
      tree: source.dir,
      treeLabel: source.label,
      worktree: join(context.out, 'worktree'),
      signal: context.signal,
      onApplied: ({ index, subject }) => {
        context.emit({ type: 'patch-applied', index, count: series.patches.length, subject });
      },
    });
    return { value, cached: false, detail: `${series.patches.length} patches, ${value.files.length} files` };
  });
}

function lockFor(kind: string, key: string, what: string, context: KernelContext): Promise<AsyncDisposable> {
  return acquireLock(cacheDir('locks', `${kind}-${key}`), {
    signal: context.signal,
    onWait: (owner) => {
      const who = owner === undefined ? 'another run' : `process ${owner}`;
      context.emit({ type: 'note', text: `waiting for ${who}, which ${what}` });
    },
  });
}

async function readyImage(request: KernelRequest, path: string): Promise<KernelImage> {
  const options = { series: 'series', patches: 'patches', tree: 'tree', ref: 'base' } as const;
  for (const [part, option] of Object.entries(options)) {
    if (request[part as keyof typeof options] === undefined) continue;
    throw new Failure('E_USAGE', 'user', `a ready kernel and --${option} exclude each other`, {
      hint: 'a ready kernel is booted as it is; leave one of the two out',
    });
  }
  const { release, imageSha256 } = await readyKernel(path);
  return {
    key: imageSha256,
    bzImage: resolve(path),
    config: undefined,
    vmlinux: undefined,
    release,
    imageSha256,
    profile: request.profile.name,
    role: request.role,
    series: null,
    patch: null,
  };
}

function imageOf(plan: Plan, { dir, release, imageSha256 }: StoredImage): KernelImage {
  const { request, series, key } = plan;
  const last = request.patches === undefined ? undefined : series?.patches.at(-1);
  return {
    key,
    bzImage: join(dir, 'bzImage'),
    config: join(dir, 'config'),
    vmlinux: join(dir, 'vmlinux'),
    release,
    imageSha256,
    profile: request.profile.name,
    role: request.role,
    series: series?.name ?? null,
    patch: last === undefined ? null : { index: last.index, subject: last.subject },
  };
}

function sourceTitle({ profile, tree, ref }: KernelRequest): string {
  if (tree !== undefined) return ref === undefined ? tree : `${tree} at ${ref}`;
  return profile.source.debianPackage ?? profile.source.tarball?.url ?? profile.name;
}

function applyTitle(series: Series | undefined): string {
  return series === undefined ? 'no series' : `${series.title} (${series.patches.length} patches)`;
}

function configTitle({ request }: Plan): string {
  return request.fragments.length === 0 ? request.profile.name : `${request.profile.name} and own fragments`;
}
