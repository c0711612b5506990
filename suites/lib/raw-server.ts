import { bytes, concat } from './bytes.ts';
import type { Client } from './client.ts';
import { u32, u64 } from './entry-answer.ts';
import { eventually } from './eventually.ts';
import { NotifyCode } from './fuse-abi.ts';

const HEADER_BYTES = 40;
export const OUT_HEADER_BYTES = 16;
/** What the kernel wants room for before it gives a request away: its largest write and the headers. */
const ROOM_BYTES = 2 * 1024 * 1024;
/** fuse.h: set in the number of a request that is sent a second time. */
const RESENT = 1n << 63n;
/** fuse.h: set in the number of an INTERRUPT, the rest of which is that of the request. */
export const INTERRUPT = 1n;

/** A request as it came from the device. Its number is 64 bits wide: nothing of it is lost here. */
export interface RawRequest {
  readonly opcode: number;
  readonly unique: bigint;
  readonly nodeid: bigint;
  readonly isResent: boolean;
  /** In whose name it comes, with the pid. */
  readonly uid: number;
  readonly gid: number;
  readonly pid: number;
  /** What is behind the pid in the header: the length of extensions, and padding. */
  readonly rest: number;
  /** What follows the header; not `body`, which is what an answer has. */
  readonly args: Uint8Array;
}

/** The next request of a connection, read by a client that has its device. */
export async function nextRequest(client: Client, device: number): Promise<RawRequest> {
  const read = async (): Promise<Uint8Array> => {
    return client.read({ fd: device, count: ROOM_BYTES }).catch(() => bytes(''));
  };
  const raw = await eventually(read, ({ length }) => length >= HEADER_BYTES);
  if (raw.length < HEADER_BYTES) throw new Error('no request came');
  const view = new DataView(raw.buffer, raw.byteOffset, raw.byteLength);
  const unique = view.getBigUint64(8, true);
  const nodeid = view.getBigUint64(16, true);
  return {
    opcode: view.getUint32(4, true),
    unique,
    nodeid,
    isResent: (unique & RESENT) !== 0n,
    uid: view.getUint32(24, true),
    gid: view.getUint32(28, true),
    pid: view.getUint32(32, true),
    rest: view.getUint32(36, true),
    args: raw.subarray(HEADER_BYTES),
  };
}

/** `fuse_out_header`. `error`: negative, as on the wire. */
export function outHeader(answer: {
  readonly unique: bigint;
  readonly error?: number;
  readonly bodyBytes: number;
}): Uint8Array {
  const header = new Uint8Array(OUT_HEADER_BYTES);
  const view = new DataView(header.buffer);
  view.setUint32(0, OUT_HEADER_BYTES + answer.bodyBytes, true);
  view.setInt32(4, answer.error ?? 0, true);
  view.setBigUint64(8, answer.unique, true);
  return header;
}

/** @returns `ok` or the errno of the write. */
export function answerRequest(
  client: Client,
  device: number,
  answer: { readonly unique: bigint; readonly error?: number; readonly body?: Uint8Array },
): Promise<string> {
  const { unique, error = 0, body = new Uint8Array() } = answer;
  const header = outHeader({ unique, error, bodyBytes: body.length });
  return client.errno.write({ fd: device, data: concat(header, body) });
}

/** Has the kernel forget a name of the root (FUSE_NOTIFY_INVAL_ENTRY). @returns `ok` or the errno of the write. */
export function forgetName(client: Client, device: number, name: string): Promise<string> {
  const body = concat(u64(1n), u32(name.length), u32(0), bytes(`${name}\0`));
  return answerRequest(client, device, { unique: 0n, error: NotifyCode.INVAL_ENTRY, body });
}

/** `fuse_init_out` of a server of this protocol that asks for no feature. */
export function initBody(minor: number): Uint8Array {
  const body = new Uint8Array(64);
  const view = new DataView(body.buffer);
  view.setUint32(0, 7, true);
  view.setUint32(4, minor, true);
  // max_write, and time_gran in nanoseconds.
  view.setUint32(20, 4096, true);
  view.setUint32(24, 1, true);
  return body;
}

/** `fuse_open_out`. */
export function openBody(fh: bigint, openFlags: number, backingId: number): Uint8Array {
  const body = new Uint8Array(16);
  const view = new DataView(body.buffer);
  view.setBigUint64(0, fh, true);
  view.setUint32(8, openFlags, true);
  view.setInt32(12, backingId, true);
  return body;
}
