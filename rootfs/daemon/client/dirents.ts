import type { CallResult } from '../../protocol/syscalls.ts';
import { flagBits } from '../sys/constants.ts';
import { cString } from '../sys/memory.ts';
import { syscall } from '../sys/syscall.ts';
import { AT_FDCWD, mapValue } from './call-table.ts';

export interface Dirent {
  readonly name: string;
  /** Decimal: larger than a double can hold on some overlays. */
  readonly ino: string;
  /** `DT_*` (linux/fs_types.h). */
  readonly type: number;
}

/** What a directory lists, the dots as well, in its own order. */
export async function direntsOf(path: string): Promise<CallResult<Dirent[]>> {
  const opened = await syscall('openat', AT_FDCWD, cString(path), flagBits('O_RDONLY|O_DIRECTORY'), 0);
  if ('errno' in opened) return opened;
  const listed = await direntsIn(opened.value);
  await syscall('close', opened.value);
  return listed;
}

const ROOM_BYTES = 32 * 1024;

/** The same of an open directory, from its position on (getdents64(2)). */
export async function direntsIn(fd: number): Promise<CallResult<Dirent[]>> {
  const entries: Dirent[] = [];
  for (;;) {
    const some = await someDirentsIn(fd, ROOM_BYTES);
    if ('errno' in some) return some;
    if (some.value.length === 0) return { value: entries };
    entries.push(...some.value);
  }
}

/** What one call gives. `bytes`: its room. */
export async function someDirentsIn(fd: number, bytes: number): Promise<CallResult<Dirent[]>> {
  const buffer = Buffer.alloc(bytes);
  const result = await syscall('getdents64', fd, buffer, buffer.length);
  return mapValue(result, (length) => parseDirents(buffer.subarray(0, length)));
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
