const PER_EMULATED_COPY = 8;

export interface CopyOf {
  readonly accelerator: 'kvm' | 'tcg';
  /** What a machine has leaked is looked for at its end. */
  readonly leakScan: boolean;
  readonly lockdep: boolean;
}

/**
 * How many test files a copy of the saved machine serves at most, one after the other. With KVM a new copy is as fast
 * as any. Under emulation nothing is translated in it yet of the kernel and the daemon, which costs the first test of
 * a file as much again as the copy: there several files follow one another, unless what the kernel remembers is told
 * of the file, the orders of its locks or what has leaked (docs/decisions/0013).
 */
export function filesPerCopy({ accelerator, leakScan, lockdep }: CopyOf): number {
  return accelerator === 'tcg' && !leakScan && !lockdep ? PER_EMULATED_COPY : 1;
}
