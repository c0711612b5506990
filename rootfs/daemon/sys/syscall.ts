import { errnoName } from '../../protocol/errno.ts';
import type { CallResult } from '../../protocol/syscalls.ts';
import { callAsync, callSync, type NativeArgument, type NativeResult } from './ffi.ts';

/** Numbers on x86-64 and on arm64 (asm-generic). Calls that only one of them has are left out. */
const NUMBERS = {
  socket: [41, 198],
  openat: [257, 56],
  close: [3, 57],
  read: [0, 63],
  pread64: [17, 67],
  write: [1, 64],
  pwrite64: [18, 68],
  preadv2: [327, 286],
  pwritev2: [328, 287],
  lseek: [8, 62],
  fsync: [74, 82],
  fdatasync: [75, 83],
  syncfs: [306, 267],
  ftruncate: [77, 46],
  truncate: [76, 45],
  fallocate: [285, 47],
  fadvise64: [221, 223],
  readahead: [187, 213],
  sync_file_range: [277, 84],
  statx: [332, 291],
  faccessat2: [439, 439],
  statfs: [137, 43],
  dup: [32, 23],
  dup3: [292, 24],
  fcntl: [72, 25],
  ioctl: [16, 29],
  mmap: [9, 222],
  msync: [26, 227],
  madvise: [28, 233],
  mprotect: [10, 226],
  mincore: [27, 232],
  munmap: [11, 215],
  pipe2: [293, 59],
  splice: [275, 76],
  tee: [276, 77],
  sendfile: [40, 71],
  copy_file_range: [326, 285],
  io_setup: [206, 0],
  io_submit: [209, 2],
  io_getevents: [208, 4],
  io_destroy: [207, 1],
  io_uring_setup: [425, 425],
  io_uring_enter: [426, 426],
  io_uring_register: [427, 427],
  mkdirat: [258, 34],
  mknodat: [259, 33],
  unlinkat: [263, 35],
  renameat2: [316, 276],
  linkat: [265, 37],
  name_to_handle_at: [303, 264],
  open_by_handle_at: [304, 265],
  symlinkat: [266, 36],
  readlinkat: [267, 78],
  fchmodat: [268, 53],
  fchmod: [91, 52],
  fchownat: [260, 54],
  utimensat: [280, 88],
  getxattr: [191, 8],
  setxattr: [188, 5],
  listxattr: [194, 11],
  removexattr: [197, 14],
  lgetxattr: [192, 9],
  lsetxattr: [189, 6],
  llistxattr: [195, 12],
  lremovexattr: [198, 15],
  flock: [73, 32],
  mount: [165, 40],
  umount2: [166, 39],
  open_tree: [428, 428],
  move_mount: [429, 429],
  fsopen: [430, 430],
  fsconfig: [431, 431],
  fspick: [433, 433],
  mount_setattr: [442, 442],
  memfd_create: [319, 279],
  eventfd2: [290, 19],
  ppoll: [271, 73],
  socketpair: [53, 199],
  inotify_init1: [294, 26],
  inotify_add_watch: [254, 27],
  fanotify_init: [300, 262],
  fanotify_mark: [301, 263],
  pidfd_open: [434, 434],
  pidfd_getfd: [438, 438],
  clock_settime: [227, 112],
  prlimit64: [302, 261],
  getdents64: [217, 61],
} as const satisfies Record<string, readonly [number, number]>;
export type SyscallNumberName = keyof typeof NUMBERS;

function numberOf(name: SyscallNumberName): number {
  return NUMBERS[name][process.arch === 'arm64' ? 1 : 0];
}

let onPool = true;

/**
 * While `work` runs, system calls are made on this thread and not on one of the pool: what the kernel keeps for
 * each thread then concerns them all. Nothing else of this process goes on meanwhile.
 */
export async function onThisThread<T>(work: () => Promise<T>): Promise<T> {
  onPool = false;
  try {
    return await work();
  } finally {
    onPool = true;
  }
}

/** One raw system call through syscall(2): no wrapper of libc is between the test and the kernel. */
export async function syscall(
  name: SyscallNumberName,
  ...args: readonly NativeArgument[]
): Promise<CallResult<number>> {
  const words = sevenWords(name, args);
  return toResult(onPool ? await callAsync('syscall', words) : callSync('syscall', words));
}

/** As `syscall`, on this thread: only for calls that cannot wait for anything this process has to do. */
export function syscallSync(name: SyscallNumberName, ...args: readonly NativeArgument[]): CallResult<number> {
  return toResult(callSync('syscall', sevenWords(name, args)));
}

function sevenWords(name: SyscallNumberName, args: readonly NativeArgument[]): NativeArgument[] {
  return [numberOf(name), ...args, ...Array<number>(6 - args.length).fill(0)];
}

export function toResult(result: NativeResult): CallResult<number> {
  return result.value === -1 ? { errno: errnoName(result.errno) } : { value: result.value };
}

/** A system call that was expected to work did not. */
export class SystemError extends Error {
  override readonly name = 'SystemError';
  readonly errno: string;

  constructor(call: string, errno: string) {
    super(`${call}: ${errno}`);
    this.errno = errno;
  }
}

export function valueOf<T>(call: string, result: CallResult<T>): T {
  if ('errno' in result) throw new SystemError(call, result.errno);
  return result.value;
}
