import type { KernelImage } from '#kernel/kernel-image.ts';
import type { PatchBuild } from './series-kernels.ts';

/** One kernel of the series, and the patches after which it is what one gets; 0 stands for the base. */
export interface Stop {
  readonly kernel: KernelImage;
  /** What the kernel does, see kernelContent: equal for two builds that differ in nothing that runs. */
  readonly content: string;
  readonly patches: readonly number[];
}

/** Kernels in a row that are the same are one stop: a patch that changes no code has its parent's verdicts. Pure. */
export function stopsOf(
  builds: readonly PatchBuild[],
  contents: ReadonlyMap<number, string>,
): readonly Stop[] {
  const stops: Stop[] = [];
  for (const build of builds) {
    if (build.state !== 'built') continue;
    const { index, kernel } = build;
    const content = contents.get(index) ?? kernel.imageSha256;
    const last = stops.at(-1);
    if (last?.content === content) stops[stops.length - 1] = { ...last, patches: [...last.patches, index] };
    else stops.push({ kernel, content, patches: [index] });
  }
  return stops;
}

/** The patches that can be to blame for a change between two stops: more than one if some did not build. Pure. */
export function blamed(
  stops: readonly Stop[],
  change: { readonly from: number; readonly to: number },
): { readonly first: number; readonly last: number } {
  const before = stops[change.from]?.patches.at(-1) ?? 0;
  return { first: before + 1, last: stops[change.to]?.patches[0] ?? before + 1 };
}
