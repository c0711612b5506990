import { concat } from './bytes.ts';
import { u32, u64 } from './entry-answer.ts';

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

/** FUSE_IOCTL_RETRY */
export const RETRY = 4;

/** A piece of the caller's memory. */
export type Piece = readonly [at: bigint, length: number | bigint];

/** The same that asks to be asked again with more: `fuse_ioctl_iovec`, those to read before those to write. */
export function askAgain(
  read: readonly Piece[],
  write: readonly Piece[] = [],
  counts?: [number, number],
): Uint8Array {
  const pieces = [...read, ...write].map(([at, length]) => concat(u64(at), u64(BigInt(length))));
  const [reads, writes] = counts ?? [read.length, write.length];
  return concat(u32(0), u32(RETRY), u32(reads), u32(writes), ...pieces);
}
