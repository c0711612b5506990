import { concat } from './bytes.ts';
import { u32 } from './entry-answer.ts';

/** Directions of an ioctl number (asm-generic/ioctl.h), as the caller sees them. */
export const IOCTL_IN = 1;
export const IOCTL_OUT = 2;

/** Some ioctl that nobody but the server knows. */
export function ioctlNumber(direction: number, bytes: number): number {
  return ((direction << 30) | (bytes << 16) | (0x67 << 8) | 1) >>> 0;
}

/** `fuse_ioctl_out` (include/uapi/linux/fuse.h) and what goes out to the caller. */
export function ioctlAnswer(result: number, out: Uint8Array = new Uint8Array(), flags = 0): Uint8Array {
  return concat(u32(result), u32(flags), u32(0), u32(0), out);
}
