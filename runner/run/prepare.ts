import { join } from 'node:path';
import type { KernelImage } from '#kernel/kernel-image.ts';
import { guestNeeds, type GuestNeeds, type Profile } from '#kernel/profile.ts';
import type { RootfsImage } from '#rootfs/image/rootfs-image.ts';
import type { Config } from '#runner/config/config.ts';
import { Failure } from '#runner/lib/failure.ts';
import type { Accelerator } from '#runner/machine/machine.ts';
import type { DaemonBundle, PartContext, RunParts } from './parts.ts';

/** All that a machine needs, before any machine is started. */
export interface Prepared {
  readonly kernel: KernelImage;
  readonly rootfs: RootfsImage;
  readonly accelerator: Accelerator;
  readonly bundle: DaemonBundle;
  readonly needs: GuestNeeds;
}

/** The kernel alone: `fusegate build`. */
export function prepareKernel(
  config: Config,
  profile: Profile,
  parts: RunParts,
  context: PartContext,
): Promise<KernelImage> {
  const series = config.series !== null || (config.kernel === null && profile.series !== null);
  return parts.prepareKernel(
    {
      profile,
      series: config.series ?? undefined,
      patches: config.patches ?? undefined,
      tree: config.tree ?? undefined,
      ref: config.base ?? undefined,
      kernel: config.kernel ?? undefined,
      fragments: config.fragments,
      role: series && config.patches !== 0 ? 'patched' : 'base',
      keep: config.keep,
    },
    { ...context, out: config.out },
  );
}

/** Kernel, image, accelerator and bundle, side by side; the first failure ends the others and is the one told. */
export async function prepareAll(
  config: Config,
  profile: Profile,
  parts: RunParts,
  { emit, signal }: PartContext,
): Promise<Prepared> {
  const others = new AbortController();
  const context: PartContext = { emit, signal: AbortSignal.any([signal, others.signal]) };
  let first: { readonly error: unknown } | undefined;
  const guarded = <T>(work: Promise<T>): Promise<T> =>
    work.catch((error: unknown) => {
      first ??= { error };
      others.abort(
        new Failure('E_INTERRUPTED', 'interrupted', 'stopped: another stage failed', { cause: error }),
      );
      throw error;
    });
  const kernelImage = guarded(prepareKernel(config, profile, parts, context));
  const work = [
    kernelImage,
    guarded(parts.buildRootfs({ ...context, log: join(config.out, 'image.log') })),
    guarded(findAccelerator(config, kernelImage, parts, context)),
    guarded(parts.bundleDaemon(join(config.out, 'daemon'))),
  ] as const;
  await Promise.allSettled(work);
  if (first !== undefined) throw first.error;
  const [kernel, rootfs, accelerator, bundle] = await Promise.all(work);
  return { kernel, rootfs, accelerator, bundle, needs: guestNeeds(profile) };
}

/** Before the kernel is built missing tools and an impossible wish are refused; with it the wish is proved. */
async function findAccelerator(
  { accelerator: wanted }: Config,
  kernelImage: Promise<KernelImage>,
  parts: RunParts,
  { emit, signal }: PartContext,
): Promise<Accelerator> {
  await parts.probeAccelerator(wanted === 'kvm' ? 'kvm' : 'tcg', { signal });
  const { bzImage } = await kernelImage;
  const { accelerator, reason } = await parts.probeAccelerator(wanted, { signal, bzImage });
  if (wanted === 'auto') emit({ type: 'note', text: `accelerator ${accelerator}: ${reason}` });
  return accelerator;
}
