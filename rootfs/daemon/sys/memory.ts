import { addressOf, callAsync } from './ffi.ts';

export const PAGE_BYTES = 4096;

/** Zeroed bytes that begin `misalign` bytes after a page boundary: what O_DIRECT wants, or does not. */
export function alignedBytes(length: number, misalign = 0): Uint8Array {
  const arena = new Uint8Array(length + 2 * PAGE_BYTES);
  const past = Number(addressOf(arena) % BigInt(PAGE_BYTES));
  const start = ((PAGE_BYTES - past) % PAGE_BYTES) + misalign;
  return arena.subarray(start, start + length);
}

export function alignedCopy(data: Uint8Array, misalign = 0): Uint8Array {
  const copy = alignedBytes(data.length, misalign);
  copy.set(data);
  return copy;
}

export function cString(text: string): Uint8Array {
  return Buffer.from(`${text}\0`, 'utf8');
}

/** `struct iovec[]`. The caller keeps the buffers alive. */
export function ioVectors(buffers: readonly Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(16 * buffers.length);
  const view = new DataView(bytes.buffer);
  buffers.forEach((buffer, index) => {
    view.setBigUint64(16 * index, addressOf(buffer), true);
    view.setBigUint64(16 * index + 8, BigInt(buffer.length), true);
  });
  return bytes;
}

/** Loads from a bare address on a pool thread: a fault that waits for a FUSE server blocks only that thread. */
export async function loadFrom(address: bigint, length: number): Promise<Uint8Array> {
  const into = alignedBytes(length);
  await callAsync('memcpy', [into, address, length]);
  return into;
}

export async function storeTo(address: bigint, data: Uint8Array): Promise<void> {
  await callAsync('memcpy', [address, data, data.length]);
}
