import { chmodSync, chownSync, lchownSync, truncateSync } from 'node:fs';
import { numberField, type Request } from '../fuse/request.ts';
import { viewOf } from '../sys/bytes.ts';
import { flagBits } from '../sys/constants.ts';
import { cString } from '../sys/memory.ts';
import { syscallSync, valueOf } from '../sys/syscall.ts';

/** `FATTR_*`: which members of a SETATTR count. */
const Valid = {
  mode: 1 << 0,
  uid: 1 << 1,
  gid: 1 << 2,
  size: 1 << 3,
  atime: 1 << 4,
  mtime: 1 << 5,
  atimeNow: 1 << 7,
  mtimeNow: 1 << 8,
  killSuidgid: 1 << 11,
} as const;

const UTIME_NOW = 0x3fff_ffffn;
const UTIME_OMIT = 0x3fff_fffen;
const UNCHANGED = 0xffff_ffff;

/** The kernel's link to an open file, by which one that has no name is reached; any other link is what was meant. */
const isOpenFile = (path: string): boolean => path.startsWith('/proc/self/fd/');

export function applyAttributes(path: string, request: Request): void {
  const valid = numberField(request, 'valid');
  if (valid & Valid.size) truncateSync(path, numberField(request, 'size'));
  if (valid & (Valid.uid | Valid.gid)) {
    const uid = valid & Valid.uid ? numberField(request, 'uid') : UNCHANGED;
    const gid = valid & Valid.gid ? numberField(request, 'gid') : UNCHANGED;
    (isOpenFile(path) ? chownSync : lchownSync)(path, uid, gid);
  }
  if (valid & Valid.mode) chmodSync(path, numberField(request, 'mode') & 0o7777);
  if (valid & (Valid.atime | Valid.mtime | Valid.atimeNow | Valid.mtimeNow)) setTimes(path, request, valid);
}

function setTimes(path: string, request: Request, valid: number): void {
  const bytes = new Uint8Array(32);
  const view = viewOf(bytes);
  const put = (at: number, set: number, now: number, seconds: string, nanoseconds: string): void => {
    const nsec =
      valid & now ? UTIME_NOW : valid & set ? BigInt(numberField(request, nanoseconds)) : UTIME_OMIT;
    view.setBigInt64(at, BigInt(numberField(request, seconds)), true);
    view.setBigInt64(at + 8, nsec, true);
  };
  put(0, Valid.atime, Valid.atimeNow, 'atime', 'atimensec');
  put(16, Valid.mtime, Valid.mtimeNow, 'mtime', 'mtimensec');
  const flags = isOpenFile(path) ? 0 : flagBits('AT_SYMLINK_NOFOLLOW');
  valueOf('utimensat', syscallSync('utimensat', flagBits('AT_FDCWD'), cString(path), bytes, flags));
}
