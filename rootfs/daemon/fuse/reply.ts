import { errnoNumber } from '../../protocol/errno.ts';
import { viewOf } from '../sys/bytes.ts';
import { layout, writeLayout } from './layout.ts';

const OUT_HEADER_BYTES = 16;

const ATTR =
  'ino:u64 size:u64 blocks:u64 atime:s64 mtime:s64 ctime:s64 atimensec:u32 mtimensec:u32 ctimensec:u32 ' +
  'mode:u32 nlink:u32 uid:u32 gid:u32 rdev:u32 blksize:u32 flags:u32';

export const Out = {
  entry: layout(
    'nodeid:u64 generation:u64 entry_valid:u64 attr_valid:u64 entry_valid_nsec:u32 attr_valid_nsec:u32 ' +
      ATTR,
  ),
  attr: layout(`attr_valid:u64 attr_valid_nsec:u32 _:u32 ${ATTR}`),
  open: layout('fh:u64 open_flags:u32 backing_id:s32'),
  write: layout('size:u32 _:u32'),
  statfs: layout(
    'blocks:u64 bfree:u64 bavail:u64 files:u64 ffree:u64 bsize:u32 namelen:u32 frsize:u32 _:u32 ' +
      '_:u64 _:u64 _:u64',
  ),
  getxattr: layout('size:u32 _:u32'),
  lk: layout('start:u64 end:u64 type:u32 pid:u32'),
  init: layout(
    'major:u32 minor:u32 max_readahead:u32 flags:u32 max_background:u16 congestion_threshold:u16 ' +
      'max_write:u32 time_gran:u32 max_pages:u16 map_alignment:u16 flags2:u32 max_stack_depth:u32 ' +
      'request_timeout:u16 _:u16 _:u64 _:u64 _:u32',
  ),
  ioctl: layout('result:s32 flags:u32 in_iovs:u32 out_iovs:u32'),
  poll: layout('revents:u32 _:u32'),
  lseek: layout('offset:u64'),
  copied: layout('bytes_copied:u64'),
  dirent: layout('ino:u64 off:u64 namelen:u32 type:u32'),
  notifyInode: layout('ino:u64 off:s64 len:s64'),
  notifyEntry: layout('parent:u64 namelen:u32 flags:u32'),
  notifyDelete: layout('parent:u64 child:u64 namelen:u32 _:u32'),
  notifyStore: layout('nodeid:u64 offset:u64 size:u32 _:u32'),
} as const;

/** A whole answer: 16 bytes of header and the body, to be written with one write(2). */
export function answer(unique: number, body: Uint8Array): Uint8Array {
  return message(BigInt(unique), 0, body);
}

/** @param errno name; the wire wants it negative. */
export function errorAnswer(unique: number, errno: string): Uint8Array {
  return message(BigInt(unique), -errnoNumber(errno), new Uint8Array());
}

/** A message that answers nothing: unique 0, its code where an answer has the error. */
export function notification(code: number, body: Uint8Array): Uint8Array {
  return message(0n, code, body);
}

function message(unique: bigint, error: number, body: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(OUT_HEADER_BYTES + body.length);
  const view = viewOf(bytes);
  view.setUint32(0, bytes.length, true);
  view.setInt32(4, error, true);
  view.setBigUint64(8, unique, true);
  bytes.set(body, OUT_HEADER_BYTES);
  return bytes;
}

export function joinBytes(...parts: readonly Uint8Array[]): Uint8Array {
  return new Uint8Array(Buffer.concat(parts));
}

/** Directory entries begin on 8-byte boundaries. */
export function padTo8(bytes: Uint8Array): Uint8Array {
  const padding = (8 - (bytes.length % 8)) % 8;
  return padding === 0 ? bytes : joinBytes(bytes, new Uint8Array(padding));
}

export function struct(
  kind: keyof typeof Out,
  values: Readonly<Record<string, number | bigint | string>>,
): Uint8Array {
  return writeLayout(Out[kind], values);
}
