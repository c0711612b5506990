import { Opcode, type OpcodeName } from '../../protocol/fuse.ts';
import { layout, type Layout } from './layout.ts';

/** What follows the fixed part of a request. */
export type Tail = 'none' | 'name' | 'name newName' | 'name target' | 'name value' | 'data' | 'forgets';

/**
 * `always`: exactly one answer. `never`: an answer would be an error of the server. `optional`: INTERRUPT may
 * be answered with EAGAIN or ENOSYS, NOTIFY_REPLY and the like with nothing.
 */
export type ReplyRule = 'always' | 'never' | 'optional';

export interface Operation {
  readonly name: OpcodeName;
  readonly opcode: number;
  readonly fixed: Layout;
  readonly tail: Tail;
  readonly reply: ReplyRule;
}

type Row = readonly [fixed: string, tail?: Tail, reply?: ReplyRule];

const LOCK = 'fh:u64 owner:id start:u64 end:u64 type:u32 pid:u32 lk_flags:u32 _:u32';
const READ = 'fh:u64 offset:u64 size:u32 read_flags:u32 lock_owner:id flags:u32 _:u32';
const FSYNC = 'fh:u64 fsync_flags:u32 _:u32';
const RELEASE = 'fh:u64 flags:u32 release_flags:u32 lock_owner:id';
const OPEN = 'flags:u32 open_flags:u32';
const CREATE = 'flags:u32 mode:u32 umask:u32 open_flags:u32';
const SETXATTR = 'size:u32 flags:u32';
const COPY = 'fh_in:u64 off_in:u64 nodeid_out:u64 fh_out:u64 off_out:u64 len:u64 flags:u64';

/** One row per opcode: the fixed struct of the request, what follows it, whether it is answered. */
const ROWS: Readonly<Record<OpcodeName, Row>> = {
  LOOKUP: ['', 'name'],
  FORGET: ['nlookup:u64', 'none', 'never'],
  GETATTR: ['getattr_flags:u32 _:u32 fh:u64'],
  SETATTR: [
    'valid:u32 _:u32 fh:u64 size:u64 lock_owner:id atime:u64 mtime:u64 ctime:u64 atimensec:u32 ' +
      'mtimensec:u32 ctimensec:u32 mode:u32 _:u32 uid:u32 gid:u32 _:u32',
  ],
  READLINK: [''],
  SYMLINK: ['', 'name target'],
  MKNOD: ['mode:u32 rdev:u32 umask:u32 _:u32', 'name'],
  MKDIR: ['mode:u32 umask:u32', 'name'],
  UNLINK: ['', 'name'],
  RMDIR: ['', 'name'],
  RENAME: ['newdir:u64', 'name newName'],
  LINK: ['oldnodeid:u64', 'name'],
  OPEN: [OPEN],
  READ: [READ],
  WRITE: ['fh:u64 offset:u64 size:u32 write_flags:u32 lock_owner:id flags:u32 _:u32', 'data'],
  STATFS: [''],
  RELEASE: [RELEASE],
  FSYNC: [FSYNC],
  SETXATTR: [SETXATTR, 'name value'],
  GETXATTR: ['size:u32 _:u32', 'name'],
  LISTXATTR: ['size:u32 _:u32'],
  REMOVEXATTR: ['', 'name'],
  FLUSH: ['fh:u64 _:u32 _:u32 lock_owner:id'],
  INIT: ['major:u32 minor:u32 max_readahead:u32 flags:u32'],
  OPENDIR: [OPEN],
  READDIR: [READ],
  RELEASEDIR: [RELEASE],
  FSYNCDIR: [FSYNC],
  GETLK: [LOCK],
  SETLK: [LOCK],
  SETLKW: [LOCK],
  ACCESS: ['mask:u32 _:u32'],
  CREATE: [CREATE, 'name'],
  INTERRUPT: ['unique:u64', 'none', 'optional'],
  BMAP: ['block:u64 blocksize:u32 _:u32'],
  DESTROY: [''],
  IOCTL: ['fh:u64 flags:u32 cmd:u32 arg:id in_size:u32 out_size:u32', 'data'],
  POLL: ['fh:u64 kh:id flags:u32 events:u32'],
  NOTIFY_REPLY: ['_:u64 offset:u64 size:u32 _:u32 _:u64 _:u64', 'data', 'optional'],
  BATCH_FORGET: ['count:u32 _:u32', 'forgets', 'never'],
  FALLOCATE: ['fh:u64 offset:u64 length:u64 mode:u32 _:u32'],
  READDIRPLUS: [READ],
  RENAME2: ['newdir:u64 flags:u32 _:u32', 'name newName'],
  LSEEK: ['fh:u64 offset:s64 whence:u32 _:u32'],
  COPY_FILE_RANGE: [COPY],
  SYNCFS: ['_:u64'],
  TMPFILE: [CREATE, 'name'],
  STATX: ['getattr_flags:u32 _:u32 fh:u64 sx_flags:u32 sx_mask:u32'],
  COPY_FILE_RANGE_64: [COPY],
};

const operations = new Map<number, Operation>(
  (Object.keys(ROWS) as OpcodeName[]).map((name) => {
    const [fixed, tail = 'none', reply = 'always'] = ROWS[name];
    return [Opcode[name], { name, opcode: Opcode[name], fixed: layout(fixed), tail, reply }];
  }),
);

/** SETXATTR as it is once SETXATTR_EXT has been agreed on. */
const setxattrExt: Operation = {
  name: 'SETXATTR',
  opcode: Opcode.SETXATTR,
  fixed: layout(`${SETXATTR} setxattr_flags:u32 _:u32`),
  tail: 'name value',
  reply: 'always',
};

export function operationOf(opcode: number, hasSetxattrExt = false): Operation | undefined {
  return hasSetxattrExt && opcode === Opcode.SETXATTR ? setxattrExt : operations.get(opcode);
}

export function allOperations(): Operation[] {
  return [...operations.values()];
}
