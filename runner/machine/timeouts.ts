import type { Accelerator } from './machine.ts';

/** Every deadline of a machine in one place. Milliseconds. */
export interface Timeouts {
  /** From the start of vng to the first line of our init. */
  readonly initMs: number;
  /** From there to sshd listening. */
  readonly sshdMs: number;
  /** How long a panic or an oops may go on printing before the machine is stopped. */
  readonly lastWordsMs: number;
  /** For each step of stopping: a word to QEMU, SIGTERM, SIGKILL. */
  readonly stopMs: number;
}

/** On a machine with working KVM; generous, because only broken machines ever reach them. */
const BASE: Timeouts = { initMs: 20_000, sshdMs: 15_000, lastWordsMs: 2_000, stopMs: 1_500 };

/** Emulation was measured to be 3 to 8 times slower than KVM; a busy machine adds to that. */
const DEFAULT_SLOWDOWN: Readonly<Record<Accelerator, number>> = { kvm: 1, tcg: 4 };

/** The deadlines for a machine. `slowdown`: of its kernel, beside that of the accelerator; at least 1. */
export function machineTimeouts(accelerator: Accelerator, slowdown = 1): Timeouts {
  const factor = Math.max(1, slowdown) * DEFAULT_SLOWDOWN[accelerator];
  return {
    ...BASE,
    initMs: BASE.initMs * factor,
    sshdMs: BASE.sshdMs * factor,
    lastWordsMs: BASE.lastWordsMs * factor,
  };
}
