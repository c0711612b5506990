import type { CallResult } from '../../protocol/syscalls.ts';
import { syscall } from '../sys/syscall.ts';

export interface Dirent {
  readonly name: string;
  /** Decimal: larger than a double can hold on some overlays. */
  readonly ino: string;
  /** `DT_*` (linux/fs_types.h). */
  readonly type: number;
}

/** What an open directory lists from its position on, the dots as well, in its own order (getdents64(2)). */
export async function direntsIn(fd: number): Promise<CallResult<Dirent[]>> {
  const entries: Dirent[] = [];
  const buffer = Buffer.alloc(32 * 1024);
  let result = await syscall('getdents64', fd, buffer, buffer.length);
  while (!('errno' in result) && result.value > 0) {
    entries.push(...parseDirents(buffer.subarray(0, result.value)));
    result = await syscall('getdents64', fd, buffer, buffer.length);
  }
  return 'errno' in result ? result : { value: entries };
}

/** What one call gives. `bytes`: its room. */
export async function someDirentsIn(fd: number, bytes: number): Promise<CallResult<Dirent[]>> {
  const buffer = Buffer.alloc(bytes);
  const result = await syscall('getdents64', fd, buffer, buffer.length);
  return 'errno' in result ? result : { value: parseDirents(buffer.subarray(0, result.value)) };
}

/** `struct linux_dirent64`: u64 ino, s64 off, u16 reclen, u8 type, name. */
function parseDirents(bytes: Buffer): Dirent[] {
  const entries: Dirent[] = [];
  for (let at = 0; at < bytes.length; at += bytes.readUInt16LE(at + 16)) {
    const name = bytes.toString('utf8', at + 19, bytes.indexOf(0, at + 19));
    entries.push({ name, ino: bytes.readBigUInt64LE(at).toString(), type: bytes.readUInt8(at + 18) });
  }
  return entries;
}
