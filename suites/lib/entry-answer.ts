/** Offsets in `fuse_entry_out`, whose last 88 bytes are a `fuse_attr` (include/uapi/linux/fuse.h). */
export const ENTRY = { nodeid: 0, generation: 8, entryValid: 16, attrValid: 24, attr: 40 } as const;
/** Offsets in `fuse_attr_out`. */
export const ATTR_OUT = { attrValid: 0, attr: 16 } as const;
/** Offsets in `fuse_attr`. */
export const ATTR = { ino: 0, size: 8, mode: 60, nlink: 64, uid: 68, gid: 72, blksize: 80 } as const;

const ENTRY_BYTES = 128;

/** `fuse_entry_out` without attributes: what a server says of a name that there is not. */
export function entryAnswer(entry: { readonly nodeid: bigint; readonly entryValidS: number }): Uint8Array {
  const body = new Uint8Array(ENTRY_BYTES);
  const view = new DataView(body.buffer);
  view.setBigUint64(ENTRY.nodeid, entry.nodeid, true);
  view.setBigUint64(ENTRY.entryValid, BigInt(entry.entryValidS), true);
  return body;
}

export function u32(value: number): Uint8Array {
  const word = new Uint8Array(4);
  new DataView(word.buffer).setUint32(0, value, true);
  return word;
}

export function u64(value: bigint): Uint8Array {
  const word = new Uint8Array(8);
  new DataView(word.buffer).setBigUint64(0, value, true);
  return word;
}
