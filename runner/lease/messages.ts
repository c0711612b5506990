import type { Evidence } from '#runner/lib/failure.ts';

/** Environment variable that tells an AVA worker where the broker listens (a unix socket). */
export const LEASE_SOCKET_ENV = 'FUSEGATE_LEASE_SOCKET';

/**
 * What else a test's machine has done or will do. `shared`: it serves the tests of one file, one after the other.
 * `alone`: it serves this test only. `cold`: that, and it has booted for it instead of being a copy of a saved one.
 */
export type MachineShare = 'shared' | 'alone' | 'cold';

/**
 * First request on a connection, method `lease.acquire`. Waits until a machine is free and healthy.
 * After it, every request whose method does not begin with `lease.` is passed to the agent in the guest
 * as it is, and its response comes back with the same id. The end of the connection, however it comes,
 * ends the lease.
 */
export interface AcquireParams {
  /** `area/file: title` */
  readonly test: string;
  /** Default: shared. */
  readonly share?: MachineShare | undefined;
}

export interface AcquireResult {
  readonly machine: string;
  readonly profile: string;
  /** From the profile: what generation of the interface the kernel has, and what differs within one. */
  readonly abi: 'backing-id' | 'fd';
  readonly features: Readonly<Record<string, string | number | boolean>>;
  readonly release: string;
  readonly accelerator: 'kvm' | 'tcg';
  /** How much slower than a KVM guest this machine is; multiply every deadline by it. At least 1. */
  readonly slowdown: number;
}

/** Last request, method `lease.finish`: the guest is cleaned and checked before this is answered. */
export interface FinishParams {
  readonly passed: boolean;
}

/** Something the test left behind or provoked: each one fails the test. */
export interface Finding {
  readonly kind:
    'kernel-log' | 'taint' | 'left-mount' | 'left-process' | 'left-device' | 'backing-busy' | 'machine-lost';
  /** One sentence. Text from the guest in it has been cleaned of control characters. */
  readonly message: string;
}

export interface FinishResult {
  readonly findings: readonly Finding[];
  readonly evidence: readonly Evidence[];
}
