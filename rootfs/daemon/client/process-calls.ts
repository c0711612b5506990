import type { FileLock } from '../../protocol/syscalls.ts';
import { adoptFd } from '../sys/adopt.ts';
import { viewOf } from '../sys/bytes.ts';
import { flagBits } from '../sys/constants.ts';
import { callSync, type NativeArgument } from '../sys/ffi.ts';
import { cString } from '../sys/memory.ts';
import { syscall, SystemError, toResult } from '../sys/syscall.ts';
import { mapValue, type CallTable } from './call-table.ts';
import { pairOf } from './file-calls.ts';

const F = { GETLK: 5, SETLK: 6, SETLKW: 7, OFD_GETLK: 36, OFD_SETLK: 37, OFD_SETLKW: 38 } as const;
const AF_UNIX = 1;
const SOCK_STREAM = 1;

/** Locks, other kinds of descriptors, and what a process is: credentials, limits, signals. */
export const processCalls = {
  fcntl: ({ fd, cmd, arg }) => {
    const word = typeof arg === 'string' ? flagBits(arg) : (arg ?? 0);
    return syscall('fcntl', fd, flagBits(cmd), word);
  },
  flock: ({ fd, operation }) => syscall('flock', fd, flagBits(operation)),
  setlk: ({ fd, type, start, length, wait, ofd }) => {
    const plain = wait === true ? F.SETLKW : F.SETLK;
    const byDescription = wait === true ? F.OFD_SETLKW : F.OFD_SETLK;
    return syscall('fcntl', fd, ofd === true ? byDescription : plain, lockStruct(type, start, length));
  },
  getlk: async ({ fd, type, start, length, ofd }) => {
    const lock = lockStruct(type, start, length);
    return mapValue(await syscall('fcntl', fd, ofd === true ? F.OFD_GETLK : F.GETLK, lock), () =>
      parseLock(lock),
    );
  },
  memfd_create: ({ name, flags }) => syscall('memfd_create', cString(name), flagBits(flags)),
  eventfd: () => syscall('eventfd2', 0, 0),
  socketpair: async () => {
    const bytes = new Uint8Array(8);
    return mapValue(await syscall('socketpair', AF_UNIX, SOCK_STREAM, 0, bytes), () => pairOf(bytes));
  },
  adoptFd: ({ pid, fd }) => adoptFd(pid, fd),
  setCredentials: ({ uid, gid, groups }) => {
    const list = Uint32Array.from(groups ?? []);
    mustCall('setgroups', [list.length, new Uint8Array(list.buffer)]);
    mustCall('setresgid', threeIds(gid));
    return Promise.resolve(toResult(callSync('setresuid', threeIds(uid))));
  },
  setrlimit: ({ resource, soft, hard }) => {
    const limits = new Uint8Array(16);
    viewOf(limits).setBigUint64(0, BigInt(soft), true);
    viewOf(limits).setBigUint64(8, BigInt(hard ?? soft), true);
    return syscall('prlimit64', 0, flagBits(resource), limits, null);
  },
  signal: ({ signal, disposition }) => {
    const SIG_IGN = 1;
    const result = callSync('signal', [flagBits(signal), disposition === 'ignore' ? SIG_IGN : 0]);
    return Promise.resolve(mapValue(toResult(result), () => 0));
  },
  chdir: ({ path }) => Promise.resolve(toResult(callSync('chdir', [cString(path)]))),
  umask: ({ mask }) => Promise.resolve(toResult(callSync('umask', [mask]))),
  getpid: () => Promise.resolve({ value: process.pid }),
} satisfies Partial<CallTable>;

/** Real, effective and saved id. */
function threeIds(id: number | readonly [number, number, number]): readonly number[] {
  return typeof id === 'number' ? [id, id, id] : id;
}

function mustCall(name: string, args: readonly NativeArgument[]): void {
  const result = toResult(callSync(name, args));
  if ('errno' in result) throw new SystemError(name, result.errno);
}

const LOCK_TYPES = ['F_RDLCK', 'F_WRLCK', 'F_UNLCK'] as const;

/** `struct flock` of 64-bit Linux: s16 type, s16 whence, s64 start at 8, s64 length at 16, s32 pid at 24. */
function lockStruct(type: FileLock['type'], start: number, length: number): Uint8Array {
  const bytes = new Uint8Array(32);
  const view = viewOf(bytes);
  view.setInt16(0, flagBits(type), true);
  view.setBigInt64(8, BigInt(start), true);
  view.setBigInt64(16, BigInt(length), true);
  return bytes;
}

function parseLock(bytes: Uint8Array): FileLock {
  const view = viewOf(bytes);
  return {
    type: LOCK_TYPES[view.getInt16(0, true)] ?? 'F_UNLCK',
    start: Number(view.getBigInt64(8, true)),
    length: Number(view.getBigInt64(16, true)),
    pid: view.getInt32(24, true),
  };
}
