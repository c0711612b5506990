import type { KernelImage } from '#kernel/kernel-image.ts';
import type { Failure } from '#runner/lib/failure.ts';

/** How the guest's instructions are executed. Decided by a probe that runs guest code, not by /dev/kvm's existence. */
export type Accelerator = 'kvm' | 'tcg';

/** Where sshd of a machine listens, and the only key it may show. */
export interface SshEndpoint {
  readonly host: '127.0.0.1';
  readonly port: number;
  readonly username: 'root';
  /** OpenSSH private key of this run's client, PEM. */
  readonly privateKey: string;
  /** Host key made for this machine, as the base64 of the SSH wire format. */
  readonly hostKey: string;
}

/**
 * A running virtual machine. Its end, however it comes, resolves `lost`: every wait on the guest races it.
 * Disposing stops QEMU and removes whatever the machine had on the host, but keeps the logs.
 */
export interface Machine extends AsyncDisposable {
  readonly id: string;
  readonly kernel: KernelImage;
  readonly accelerator: Accelerator;
  /** Complete kernel console (serial port), written by QEMU itself. */
  readonly consolePath: string;
  /** Milliseconds from the start of vng until sshd answered, or of a copy's QEMU until its state was loaded. */
  readonly bootMs: number;
  /** Never rejects. Resolves when the machine is gone or its kernel has panicked, oopsed or hung. */
  readonly lost: Promise<Failure>;
  /** Bytes of console written so far: an offset for `consoleSince`. */
  consoleOffset(): Promise<number>;
  /** Console text since that offset, control characters removed, as lines. */
  consoleSince(offset: number): Promise<readonly string[]>;
  /** What QEMU says of the machine: its status and the registers. @throws Failure E_QMP (infra) */
  examine?(timeoutMs: number): Promise<string>;
  /** Writes the guest's memory to a file. The guest stands still meanwhile. @throws Failure E_QMP (infra) */
  dumpMemory?(path: string, timeoutMs: number): Promise<void>;
  /**
   * A magic key on the serial console: a break and a letter, which the kernel takes in an interrupt, whatever
   * its processes do (Documentation/admin-guide/sysrq.rst). What it says is on the console.
   * @throws Failure E_QMP (infra)
   */
  sysrq?(key: string): Promise<void>;
}

/** A machine that was booted, not restored: it has a door for SSH. */
export interface BootedMachine extends Machine {
  readonly ssh: SshEndpoint;
}
