import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { KernelImage } from '#kernel/kernel-image.ts';
import type { KernelRequest } from '#kernel/prepare-kernel.ts';
import type { Patch } from '#kernel/series/series.ts';
import type { SourceTree } from '#kernel/source/source-tree.ts';
import type { Emit } from '#runner/lib/events.ts';
import { Failure } from '#runner/lib/failure.ts';
import type { RunParts } from '#runner/run/parts.ts';

/** What became of the kernel after one patch; index 0 is the base. */
export type PatchBuild =
  | { readonly state: 'built'; readonly index: number; readonly kernel: KernelImage }
  | { readonly state: 'not-built'; readonly index: number; readonly failure: Failure }
  | { readonly state: 'not-applied'; readonly index: number; readonly failure: Failure }
  /** There was no time for it. */
  | { readonly state: 'not-run'; readonly index: number };

export interface SeriesBuild {
  /** What to build after so many patches; 0 is the base. */
  readonly kernelAt: (index: number) => KernelRequest;
  /** For people: which kernel that is. */
  readonly nameOf: (index: number) => string;
  readonly patches: readonly Patch[];
  readonly parts: Pick<RunParts, 'prepareKernel'>;
  readonly out: string;
  /** See KernelContext. */
  readonly sources: Map<string, SourceTree>;
  readonly emit: Emit;
  readonly signal: AbortSignal;
  /** Says that the time is over. */
  readonly late: () => boolean;
  /** Called after each build, while the build tree still is as this kernel was built from. */
  readonly inspect: (
    index: number,
    kernel: KernelImage,
    request: KernelRequest,
    out: string,
  ) => Promise<void>;
}

/**
 * Builds the base and the kernel after every patch, in order, in one build tree: each costs what its patch
 * changes. A patch that does not build does not end it, one that does not apply does.
 *
 * @throws Failure of the base, and everything that is not the series' fault.
 */
export async function buildSeries(build: SeriesBuild): Promise<readonly PatchBuild[]> {
  const builds: PatchBuild[] = [];
  for (let index = 0; index <= build.patches.length; index += 1) {
    const conflict = builds.find((done) => done.state === 'not-applied');
    if (conflict !== undefined) builds.push({ ...conflict, index });
    else if (index > 0 && build.late()) builds.push({ state: 'not-run', index });
    else builds.push(await buildOne(build, index, builds.at(-1)));
  }
  return builds;
}

async function buildOne(
  build: SeriesBuild,
  index: number,
  before: PatchBuild | undefined,
): Promise<PatchBuild> {
  const { kernelAt, nameOf, emit, patches } = build;
  const out = join(build.out, 'kernels', index === 0 ? 'base' : `patch-${index}`);
  await mkdir(out, { recursive: true });
  const subject = patches[index - 1]?.subject;
  emit({
    type: 'note',
    text: `kernel: ${[nameOf(index), ...(subject === undefined ? [] : [subject])].join(', ')}`,
  });
  const wanted = kernelAt(index);
  try {
    const made = await preparedOrFresh(wanted, build, { index, out, before });
    // Also where an earlier version of the series is what the rest is compared with.
    const kernel: KernelImage = index === 0 ? { ...made, role: 'base' } : made;
    await build.inspect(index, kernel, wanted, out);
    return { state: 'built', index, kernel };
  } catch (error) {
    if (!(error instanceof Failure) || index === 0 || error.blame !== 'series') throw error;
    if (error.code === 'E_SERIES_CONFLICT') return { state: 'not-applied', index, failure: error };
    return { state: 'not-built', index, failure: error };
  }
}

/**
 * A build that fails anywhere but in what the series touches may have stumbled over old objects: once from nothing.
 * Not when the patch before failed with the same words: there it has been made sure already.
 */
async function preparedOrFresh(
  request: KernelRequest,
  { parts, emit, signal, patches, sources }: SeriesBuild,
  {
    index,
    out,
    before,
  }: { readonly index: number; readonly out: string; readonly before: PatchBuild | undefined },
): Promise<KernelImage> {
  try {
    return await parts.prepareKernel(request, { emit, signal, out, sources });
  } catch (error) {
    if (!(error instanceof Failure) || error.code !== 'E_BUILD_FAILED' || index === 0) throw error;
    const own = patches.slice(0, index).flatMap(({ files }) => files);
    if (own.some((file) => error.message.includes(file))) throw error;
    if (before?.state === 'not-built' && before.failure.message === error.message) throw error;
    emit({ type: 'note', text: `${error.message}; building once more from nothing, to be sure` });
    return await parts.prepareKernel({ ...request, fresh: true }, { emit, signal, out, sources });
  }
}
