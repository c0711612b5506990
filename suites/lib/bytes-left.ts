import type { Client } from './client.ts';

/** ioctl_tty(2), and fs/ioctl.c for what it is of a file. */
const FIONREAD = 0x541b;

/** Bytes from the position to the end, by the size that the filesystem of the open file itself has in memory. */
export async function bytesLeft(client: Client, fd: number): Promise<number> {
  const { arg } = await client.ioctl({ fd, request: FIONREAD, arg: new Uint8Array(4) });
  return Buffer.from(arg ?? []).readInt32LE();
}
