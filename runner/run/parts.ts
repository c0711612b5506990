import type { KernelImage } from '#kernel/kernel-image.ts';
import type { KernelContext, KernelRequest } from '#kernel/prepare-kernel.ts';
import type { GuestNeeds, Profile } from '#kernel/profile.ts';
import type { RootfsImage } from '#rootfs/image/rootfs-image.ts';
import type { DeployedGuest, Guest } from '#runner/guest/guest.ts';
import type { Emit } from '#runner/lib/events.ts';
import type { Accelerator, BootedMachine } from '#runner/machine/machine.ts';
import type { SavedMachine } from '#runner/machine/saved-machine.ts';

export interface PartContext {
  readonly emit: Emit;
  readonly signal: AbortSignal;
}

/** The daemon as one file on this machine. */
export interface DaemonBundle {
  readonly path: string;
  /** Lower-case hex. */
  readonly sha256: string;
}

export interface BootRequest {
  /** Names the machine in messages and its directory below `out`. */
  readonly name: string;
  readonly kernel: KernelImage;
  readonly rootfs: RootfsImage;
  readonly accelerator: Accelerator;
  readonly needs: GuestNeeds;
  /** Added to the kernel's command line. */
  readonly append: string;
  /** Directory of the run, for the console and QEMU's own words. */
  readonly out: string;
}

export interface SaveRequest extends Omit<BootRequest, 'name'> {
  readonly bundle: DaemonBundle;
  readonly abi: Profile['abi'];
}

/** Where machines that need not boot come from. */
export interface MachineStates {
  /**
   * The saved machine for this request, made if there is none.
   * @throws Failure as a boot; of blame infra when there can be none here.
   */
  save(
    request: SaveRequest,
    context: PartContext,
  ): Promise<{ readonly saved: SavedMachine; readonly cached: boolean }>;
  /** A copy of it, with its agent. Says `machine-ready`. @throws Failure E_RESTORE (infra) */
  restore(
    saved: SavedMachine,
    request: Pick<BootRequest, 'name' | 'out'>,
    context: PartContext,
  ): Promise<Guest>;
  /** A saved machine that cannot be restored is of no use to anybody. */
  discard(saved: SavedMachine): Promise<void>;
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
  bootMachine(request: BootRequest, context: PartContext): Promise<BootedMachine>;
  bundleDaemon(outDir: string): Promise<DaemonBundle>;
  /** None: every machine boots. */
  readonly states?: MachineStates | undefined;
  /** Says `machine-ready`. */
  deployDaemon(machine: BootedMachine, bundle: DaemonBundle, context: PartContext): Promise<DeployedGuest>;
}
