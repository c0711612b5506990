import type { FaultKind } from '#runner/lib/events.ts';
import type { Failure } from '#runner/lib/failure.ts';

const KINDS: Readonly<Record<string, FaultKind>> = {
  E_KERNEL_PANIC: 'panic',
  E_KERNEL_OOPS: 'oops',
  E_BOOT_PANIC: 'no-boot',
  E_GUEST_ENDED: 'reset',
};

/** Pure: what kind of fault it is when the end of a machine is all that its kernel showed. */
export function lostKind({ code }: Pick<Failure, 'code'>): FaultKind {
  return KINDS[code] ?? 'lockup';
}
