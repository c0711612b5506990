import type { KernelImage } from '#kernel/kernel-image.ts';
import type { KernelContext, KernelRequest } from '#kernel/prepare-kernel.ts';
import type { RootfsImage } from '#rootfs/image/rootfs-image.ts';
import type { Guest } from '#runner/guest/guest.ts';
import type { Emit } from '#runner/lib/events.ts';
import type { Accelerator, Machine } from '#runner/machine/machine.ts';

export interface PartContext {
  readonly emit: Emit;
  readonly signal: AbortSignal;
}

/** The daemon as one file on this machine. */
export interface DaemonBundle {
  readonly path: string;
}

export interface BootRequest {
  /** Names the machine in messages and its directory below `out`. */
  readonly name: string;
  readonly kernel: KernelImage;
  readonly rootfs: RootfsImage;
  readonly accelerator: Accelerator;
  /** Added to the kernel's command line. */
  readonly append: string;
  /** Directory of the run, for the console and QEMU's own words. */
  readonly out: string;
}

/** What a run is put together from. The command line hands over the real ones, the engine's tests small ones. */
export interface RunParts {
  prepareKernel(request: KernelRequest, context: KernelContext): Promise<KernelImage>;
  /** `log` receives what the tools say. */
  buildRootfs(context: PartContext & { readonly log: string }): Promise<RootfsImage>;
  /**
   * What really runs guest code here; proves more with a kernel at hand.
   * @throws Failure when the wanted one does not.
   */
  probeAccelerator(
    wanted: 'auto' | Accelerator,
    context: { readonly signal: AbortSignal; readonly bzImage?: string | undefined },
  ): Promise<{ readonly accelerator: Accelerator; readonly reason: string }>;
  bootMachine(request: BootRequest, context: PartContext): Promise<Machine>;
  bundleDaemon(outDir: string): Promise<DaemonBundle>;
  /** Says `machine-ready`. */
  deployDaemon(machine: Machine, bundle: DaemonBundle, context: PartContext): Promise<Guest>;
}
