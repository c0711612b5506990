/** Names and numbers of the kernel interface, for tests. */
export {
  backingMap,
  DeviceIoctl,
  InitFlag,
  initFlagBits,
  NotifyCode,
  Opcode,
  OpenFlag,
} from '#rootfs/protocol/fuse.ts';
export type { InitFlagName, NotifyName, OpcodeName } from '#rootfs/protocol/fuse.ts';
export type { RequestRecord, Rule } from '#rootfs/protocol/requests.ts';
export type { FdSource, InitReply } from '#rootfs/protocol/server-calls.ts';

/** Of `fuse_setattr_in.valid` (include/uapi/linux/fuse.h): the file is an open one, whose handle the request names. */
export const FATTR_FH = 1 << 6;

/** One name of a directory, as READDIR gives it. */
export interface DirectoryEntry {
  readonly name: string;
  readonly ino: bigint;
  /** `DT_*`: 0 when it is not known. */
  readonly type: number;
}

const DIRENT_BYTES = 24;

/** The body of an answer to READDIR: a `fuse_dirent` for each, whose positions count from `first`. */
export function directoryAnswer(entries: readonly DirectoryEntry[], first = 0): Uint8Array {
  const parts = entries.map(({ name, ino, type }, nth) => {
    const text = Buffer.from(name);
    const part = new Uint8Array(Math.ceil((DIRENT_BYTES + text.length) / 8) * 8);
    const view = new DataView(part.buffer);
    view.setBigUint64(0, ino, true);
    view.setBigUint64(8, BigInt(first + nth + 1), true);
    view.setUint32(16, text.length, true);
    view.setUint32(20, type, true);
    part.set(text, DIRENT_BYTES);
    return part;
  });
  return new Uint8Array(Buffer.concat(parts));
}
