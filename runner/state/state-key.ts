import { createHash } from 'node:crypto';

/** Everything that a saved machine depends on. A copy made under any other circumstances might not run. */
export interface StateInputs {
  readonly kernel: string;
  readonly rootfs: string;
  readonly daemon: string;
  readonly abi: string;
  readonly accelerator: string;
  readonly memoryMib: number;
  readonly cpus: number;
  readonly append: readonly string[];
  readonly qemu: string;
  readonly virtme: string;
  /** With KVM the guest sees the host's processor. */
  readonly processor: string;
}

/** Changes when the way in which machines are saved does. */
const FORMAT = 7;

/** Pure. Lower-case hex. */
export function stateKey(inputs: StateInputs): string {
  const sorted = Object.entries({ ...inputs, format: FORMAT }).sort(([a], [b]) => (a < b ? -1 : 1));
  return createHash('sha256').update(JSON.stringify(sorted)).digest('hex').slice(0, 32);
}
