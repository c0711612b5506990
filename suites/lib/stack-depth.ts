import type { TestGuest } from './guest.ts';

/** FILESYSTEM_MAX_STACK_DEPTH of include/linux/fs.h. */
export const MAX_STACK_DEPTH = 2;

/**
 * Why something must fit on top of something else, or must not: the message of an assertion about depth. A
 * filesystem counts one more than its lower one, and a FUSE filesystem as many as its server said.
 */
export function depthInWords(what: string, lowerDepth: number, maximum: number = MAX_STACK_DEPTH): string {
  const depth = lowerDepth + 1;
  const verdict = depth > maximum ? 'exceeds' : 'is within';
  return `${what}: lower depth ${lowerDepth} + 1 = ${depth} ${verdict} the maximum ${maximum}`;
}

/** Ends the test as skipped where a FUSE filesystem in passthrough mode always counts as deep as can be. */
export function needsMaxStackDepth(guest: TestGuest): void {
  if (!guest.expected.hasMaxStackDepth) {
    guest.skip(
      `no max_stack_depth in this interface: FUSE with passthrough always counts ${MAX_STACK_DEPTH}`,
    );
  }
}

/** How deep a FUSE filesystem counts whose server asked for `maxStackDepth`. */
export function fuseDepth(guest: TestGuest, maxStackDepth: number): number {
  return guest.expected.hasMaxStackDepth ? maxStackDepth : MAX_STACK_DEPTH;
}
