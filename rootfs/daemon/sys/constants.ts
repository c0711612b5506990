import { constants } from 'node:fs';
import { constants as osConstants } from 'node:os';

/** C names that may appear in flag arguments. The `O_*` of node:fs are right for the architecture. */
const NAMES: Readonly<Record<string, number>> = {
  ...Object.fromEntries(
    Object.entries(constants).filter(([name]) => /^(O_|S_I|F_OK|R_OK|W_OK|X_OK)/.test(name)),
  ),
  ...osConstants.signals,
  O_CLOEXEC: 0o2000000,
  O_PATH: 0o10000000,
  O_TMPFILE: 0o20000000 | constants.O_DIRECTORY,
  O_ASYNC: 0o20000,
  AT_FDCWD: -100,
  AT_SYMLINK_NOFOLLOW: 0x100,
  AT_REMOVEDIR: 0x200,
  /** The same bit, for name_to_handle_at. */
  AT_HANDLE_FID: 0x200,
  AT_SYMLINK_FOLLOW: 0x400,
  AT_NO_AUTOMOUNT: 0x800,
  AT_EMPTY_PATH: 0x1000,
  AT_STATX_FORCE_SYNC: 0x2000,
  AT_STATX_DONT_SYNC: 0x4000,
  RWF_HIPRI: 1,
  RWF_DSYNC: 2,
  RWF_SYNC: 4,
  RWF_NOWAIT: 8,
  RWF_APPEND: 16,
  RWF_NOAPPEND: 32,
  FALLOC_FL_KEEP_SIZE: 1,
  FALLOC_FL_PUNCH_HOLE: 2,
  FALLOC_FL_COLLAPSE_RANGE: 8,
  FALLOC_FL_ZERO_RANGE: 16,
  FALLOC_FL_INSERT_RANGE: 32,
  POSIX_FADV_NORMAL: 0,
  POSIX_FADV_RANDOM: 1,
  POSIX_FADV_SEQUENTIAL: 2,
  POSIX_FADV_WILLNEED: 3,
  POSIX_FADV_DONTNEED: 4,
  SYNC_FILE_RANGE_WAIT_BEFORE: 1,
  SYNC_FILE_RANGE_WRITE: 2,
  SYNC_FILE_RANGE_WAIT_AFTER: 4,
  SEEK_SET: 0,
  SEEK_CUR: 1,
  SEEK_END: 2,
  SEEK_DATA: 3,
  SEEK_HOLE: 4,
  PROT_NONE: 0,
  PROT_READ: 1,
  PROT_WRITE: 2,
  PROT_EXEC: 4,
  MAP_SHARED: 1,
  MAP_PRIVATE: 2,
  MAP_SHARED_VALIDATE: 3,
  MAP_POPULATE: 0x8000,
  MS_ASYNC: 1,
  MS_INVALIDATE: 2,
  // msync's MS_SYNC is 4, mount's MS_NOEXEC is 8: the two families do not meet in one call.
  MS_SYNC: 4,
  MADV_NORMAL: 0,
  MADV_RANDOM: 1,
  MADV_SEQUENTIAL: 2,
  MADV_WILLNEED: 3,
  MADV_DONTNEED: 4,
  MS_RDONLY: 1,
  MS_NOSUID: 2,
  MS_NODEV: 4,
  MS_NOEXEC: 8,
  MS_SYNCHRONOUS: 16,
  MS_REMOUNT: 32,
  MS_NOATIME: 1024,
  MS_BIND: 4096,
  MS_MOVE: 8192,
  MS_REC: 16384,
  MS_POSIXACL: 1 << 16,
  MS_UNBINDABLE: 1 << 17,
  MS_PRIVATE: 1 << 18,
  MS_STRICTATIME: 1 << 24,
  MNT_FORCE: 1,
  MNT_DETACH: 2,
  MNT_EXPIRE: 4,
  UMOUNT_NOFOLLOW: 8,
  SPLICE_F_MOVE: 1,
  SPLICE_F_NONBLOCK: 2,
  SPLICE_F_MORE: 4,
  LOCK_SH: 1,
  LOCK_EX: 2,
  LOCK_NB: 4,
  LOCK_UN: 8,
  F_DUPFD: 0,
  F_GETFD: 1,
  F_SETFD: 2,
  F_GETFL: 3,
  F_SETFL: 4,
  F_SETOWN: 8,
  F_SETLEASE: 1024,
  F_GETLEASE: 1025,
  F_SETPIPE_SZ: 1031,
  F_GETPIPE_SZ: 1032,
  F_ADD_SEALS: 1033,
  F_GET_SEALS: 1034,
  F_RDLCK: 0,
  F_WRLCK: 1,
  F_UNLCK: 2,
  FD_CLOEXEC: 1,
  F_SEAL_SEAL: 1,
  F_SEAL_SHRINK: 2,
  F_SEAL_GROW: 4,
  F_SEAL_WRITE: 8,
  MFD_CLOEXEC: 1,
  MFD_ALLOW_SEALING: 2,
  MFD_HUGETLB: 4,
  RENAME_NOREPLACE: 1,
  RENAME_EXCHANGE: 2,
  RENAME_WHITEOUT: 4,
  // inotify and fanotify count the same events with the same bits.
  ...{ IN_ACCESS: 1, IN_MODIFY: 2, IN_ATTRIB: 4, IN_CLOSE_WRITE: 8, IN_CLOSE_NOWRITE: 16, IN_OPEN: 32 },
  IN_ALL_EVENTS: 0xfff,
  FAN_CLASS_NOTIF: 0,
  FAN_CLOEXEC: 1,
  FAN_NONBLOCK: 2,
  FAN_MARK_ADD: 1,
  FAN_MARK_MOUNT: 0x10,
  XATTR_CREATE: 1,
  XATTR_REPLACE: 2,
  RLIMIT_FSIZE: 1,
  RLIMIT_NOFILE: 7,
};

/** `O_RDWR|O_CREAT` as a number. @throws RangeError for a name that is not known. */
export function flagBits(flags: string | undefined): number {
  if (flags === undefined || flags === '') return 0;
  let bits = 0;
  for (const name of flags.split('|')) {
    const value = NAMES[name.trim()];
    if (value === undefined) throw new RangeError(`${name} is not a flag that is known here`);
    bits |= value;
  }
  return bits;
}

const EVENTS = {
  access: 1 << 0,
  modify: 1 << 1,
  attrib: 1 << 2,
  close_write: 1 << 3,
  close_nowrite: 1 << 4,
  open: 1 << 5,
  delete_self: 1 << 10,
  move_self: 1 << 11,
  open_exec: 1 << 12,
  overflow: 1 << 14,
} as const;

/** What an event of inotify or fanotify says, in words; bits that stand for nothing here are left out. */
export function eventNames(mask: number): string {
  return Object.entries(EVENTS)
    .filter(([, bit]) => (mask & bit) !== 0)
    .map(([name]) => name)
    .join('|');
}
