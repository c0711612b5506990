import test from 'ava';
import { Opcode, type OpcodeName } from '../../protocol/fuse.ts';
import { allOperations, operationOf } from './operations.ts';

/** Sizes of the kernel's structs (linux/fuse.h), counted there. */
const FIXED_BYTES: Readonly<Record<OpcodeName, number>> = {
  LOOKUP: 0,
  FORGET: 8,
  GETATTR: 16,
  SETATTR: 88,
  READLINK: 0,
  SYMLINK: 0,
  MKNOD: 16,
  MKDIR: 8,
  UNLINK: 0,
  RMDIR: 0,
  RENAME: 8,
  LINK: 8,
  OPEN: 8,
  READ: 40,
  WRITE: 40,
  STATFS: 0,
  RELEASE: 24,
  FSYNC: 16,
  SETXATTR: 8,
  GETXATTR: 8,
  LISTXATTR: 8,
  REMOVEXATTR: 0,
  FLUSH: 24,
  INIT: 16,
  OPENDIR: 8,
  READDIR: 40,
  RELEASEDIR: 24,
  FSYNCDIR: 16,
  GETLK: 48,
  SETLK: 48,
  SETLKW: 48,
  ACCESS: 8,
  CREATE: 16,
  INTERRUPT: 8,
  BMAP: 16,
  DESTROY: 0,
  IOCTL: 32,
  POLL: 24,
  NOTIFY_REPLY: 40,
  BATCH_FORGET: 8,
  FALLOCATE: 32,
  READDIRPLUS: 40,
  RENAME2: 16,
  LSEEK: 24,
  COPY_FILE_RANGE: 56,
  SYNCFS: 8,
  TMPFILE: 16,
  STATX: 24,
  COPY_FILE_RANGE_64: 56,
};

test('every opcode has a name, a size, a tail and a rule for its answer', (t) => {
  for (const [name, opcode] of Object.entries(Opcode)) {
    const operation = operationOf(opcode);
    t.is(operation?.name, name as OpcodeName);
    t.is(operation?.fixed.bytes, FIXED_BYTES[name as OpcodeName], name);
  }
  t.is(allOperations().length, Object.keys(Opcode).length);
});

test('only forgetting and notices go without an answer', (t) => {
  const silent = allOperations().filter(({ reply }) => reply !== 'always');
  t.deepEqual(
    silent.map(({ name, reply }) => `${name} ${reply}`),
    ['FORGET never', 'INTERRUPT optional', 'NOTIFY_REPLY optional', 'BATCH_FORGET never'],
  );
});

test('opcodes are unique', (t) => {
  const numbers = Object.values(Opcode);
  t.is(new Set(numbers).size, numbers.length);
});
