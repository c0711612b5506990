/** What a system call gave: exactly what the kernel said, nothing interpreted. */
export type CallResult<T> = { readonly value: T } | { readonly errno: string };

export interface Stat {
  readonly mode: number;
  readonly ino: number;
  readonly nlink: number;
  readonly uid: number;
  readonly gid: number;
  readonly size: number;
  readonly blocks: number;
  readonly blksize: number;
  readonly atimeNs: number;
  readonly mtimeNs: number;
  readonly ctimeNs: number;
  /** Only when it was asked for. */
  readonly btimeNs?: number | null;
  readonly devMajor: number;
  readonly devMinor: number;
  readonly rdevMajor: number;
  readonly rdevMinor: number;
  /** The `STATX_*` bits that the file system filled in. */
  readonly mask: number;
}

export interface FileLock {
  readonly type: 'F_RDLCK' | 'F_WRLCK' | 'F_UNLCK';
  readonly start: number;
  readonly length: number;
  readonly pid: number;
}

/** One event of inotify or fanotify: `modify`, `open` …, several joined by `|` where the kernel merged them. */
export interface FileEvent {
  readonly names: string;
}

type Fd = { fd: number };
type At = { dirfd?: number; path: string };
/** Since the epoch, in nanoseconds; the time of the call; or null: as it was. */
export type NewTime = number | 'now' | null;
/** Flags are names joined by `|`, as in C: `O_RDWR|O_CREAT`. */
type Flags = string;
/** One for all, or the real, the effective and the saved one. */
type Ids = number | [real: number, effective: number, saved: number];
/**
 * Buffers begin on a page boundary, plus `misalign` bytes: O_DIRECT works, and can be made to fail.
 * `count` of reads may be larger than the file.
 */
type Misalign = { misalign?: number };
/** The buffer is at an address where there is no memory. */
type Nowhere = { nowhere?: boolean };

/** The value of an earlier call of the batch, by position; `part` of a pair, as pipe gives it. */
export interface BatchReference {
  readonly of: number;
  readonly part?: 0 | 1;
}

/** Bytes that the client makes itself (`pattern`), so that they need not travel. */
export interface BatchData {
  readonly length: number;
  readonly seed: number;
}

/** What bytes that a call has read are told by: they need not travel either. */
export interface BatchDigest {
  readonly length: number;
  readonly sha1: string;
}

export interface BatchCall {
  /** None that changes the process for good: whoever keeps processes for later tests has to know of those. */
  readonly call: Exclude<
    SyscallName,
    'batch' | 'setCredentials' | 'setrlimit' | 'signal' | 'chdir' | 'umask'
  >;
  /** As of the call by itself; any value may be `{ ref: BatchReference }`, and any bytes `{ make: BatchData }`. */
  readonly args: Readonly<Record<string, unknown>>;
}

/** The system calls a client process can make, by name: arguments and value. */
export interface Syscalls {
  open: { args: At & { flags: Flags; mode?: number }; value: number };
  creat: { args: At & { mode?: number }; value: number };
  close: { args: Fd; value: number };
  read: { args: Fd & { count: number } & Misalign; value: Uint8Array };
  pread: { args: Fd & { count: number; offset: number } & Misalign & Nowhere; value: Uint8Array };
  write: { args: Fd & { data: Uint8Array } & Misalign; value: number };
  pwrite: { args: Fd & { data: Uint8Array; offset: number } & Misalign & Nowhere; value: number };
  /** `offset` -1: the file position; `flags`: `RWF_*` names. */
  preadv2: { args: Fd & { counts: number[]; offset?: number; flags?: Flags }; value: Uint8Array };
  pwritev2: { args: Fd & { chunks: Uint8Array[]; offset?: number; flags?: Flags }; value: number };
  readv: { args: Fd & { counts: number[] }; value: Uint8Array };
  writev: { args: Fd & { chunks: Uint8Array[] }; value: number };
  lseek: {
    args: Fd & { offset: number; whence: 'SEEK_SET' | 'SEEK_CUR' | 'SEEK_END' | 'SEEK_DATA' | 'SEEK_HOLE' };
    value: number;
  };
  fsync: { args: Fd; value: number };
  fdatasync: { args: Fd; value: number };
  syncfs: { args: Fd; value: number };
  ftruncate: { args: Fd & { length: number }; value: number };
  truncate: { args: { path: string; length: number }; value: number };
  fallocate: { args: Fd & { mode?: Flags; offset: number; length: number }; value: number };
  posix_fadvise: { args: Fd & { offset: number; length: number; advice: string }; value: number };
  readahead: { args: Fd & { offset: number; count: number }; value: number };
  sync_file_range: { args: Fd & { offset: number; length: number; flags: Flags }; value: number };
  /**
   * `btime`: asks for the time of birth as well, which is null where the file system does not tell it.
   * `mask`: `STATX_*` bits to ask for instead of those of stat(2).
   */
  stat: { args: At & { flags?: Flags; btime?: boolean; mask?: number }; value: Stat };
  lstat: { args: At; value: Stat };
  fstat: { args: Fd & { flags?: Flags; btime?: boolean }; value: Stat };
  access: { args: At & { mode: Flags }; value: number };
  statfs: {
    args: { path: string };
    /** `fsid` in hexadecimal, as statfs(2) gives its two words. */
    value: Record<
      'type' | 'bsize' | 'blocks' | 'bfree' | 'bavail' | 'files' | 'ffree' | 'namelen' | 'frsize',
      number
    > & { readonly fsid: string };
  };
  dup: { args: Fd; value: number };
  dup2: { args: Fd & { newFd: number }; value: number };
  fcntl: { args: Fd & { cmd: string; arg?: number | string }; value: number };
  ioctl: {
    args: Fd & { request: number; arg?: Uint8Array | number };
    value: { ret: number; arg: Uint8Array | null };
  };
  /** The value is a handle for the mapping calls. */
  mmap: { args: Fd & { length: number; prot: Flags; flags: Flags; offset?: number }; value: number };
  /** Loads and stores through the mapping; a bus error ends the client with SIGBUS. */
  mread: { args: { map: number; offset: number; length: number }; value: Uint8Array };
  mwrite: { args: { map: number; offset: number; data: Uint8Array }; value: number };
  /** read(2) and write(2) whose buffer is a part of a mapping, where a page may be long in coming, or never come. */
  readInto: { args: Fd & { map: number; offset: number; length: number }; value: number };
  writeFrom: { args: Fd & { map: number; offset: number; length: number }; value: number };
  /** getdents64(2) in the same way. */
  readdirInto: { args: Fd & { map: number; offset: number; length: number }; value: number };
  msync: { args: { map: number; offset?: number; length?: number; flags: Flags }; value: number };
  madvise: { args: { map: number; offset?: number; length?: number; advice: string }; value: number };
  mprotect: { args: { map: number; prot: Flags }; value: number };
  /** One byte per page, 1 where it is resident. */
  mincore: { args: { map: number; offset?: number; length?: number }; value: Uint8Array };
  munmap: { args: { map: number }; value: number };
  pipe: { args: { flags?: Flags }; value: [number, number] };
  splice: {
    args: {
      fdIn: number;
      offIn?: number | null;
      fdOut: number;
      offOut?: number | null;
      length: number;
      flags?: Flags;
    };
    value: number;
  };
  tee: { args: { fdIn: number; fdOut: number; length: number }; value: number };
  sendfile: {
    args: { fdOut: number; fdIn: number; offset?: number | null; count: number };
    value: number;
  };
  copy_file_range: {
    args: { fdIn: number; offIn?: number | null; fdOut: number; offOut?: number | null; length: number };
    value: number;
  };
  /** io_setup, io_submit, io_getevents, io_destroy of one batch; the value is what each iocb completed with. */
  aio: {
    args: {
      operations: (
        | ({ op: 'pread'; fd: number; count: number; offset: number } & Misalign)
        | ({ op: 'pwrite'; fd: number; data: Uint8Array; offset: number } & Misalign)
        | { op: 'fsync' | 'fdsync'; fd: number }
      )[];
    };
    value: { result: number | string; data: Uint8Array | null }[];
  };
  /**
   * Requests to io_uring in one chain (IOSQE_IO_LINK): each begins when the one before has done all it was asked
   * for, else it is ECANCELED. The value is what each completed with. `fixed`: in buffers that are registered before
   * (io_uring_register(2)), which the kernel then has as its own pages.
   */
  uringChain: {
    args: {
      operations: (
        | { op: 'pread'; fd: number; count: number; offset: number }
        | { op: 'pwrite'; fd: number; data: Uint8Array; offset: number }
        | { op: 'fsync'; fd: number }
      )[];
      fixed?: boolean;
    };
    value: { result: number | string; data: Uint8Array | null }[];
  };
  mkdir: { args: At & { mode?: number }; value: number };
  mknod: { args: At & { mode: number; major?: number; minor?: number }; value: number };
  rmdir: { args: At; value: number };
  unlink: { args: At; value: number };
  rename: { args: { from: string; to: string; flags?: Flags }; value: number };
  link: { args: { from: string; to: string; flags?: Flags }; value: number };
  /** `linkat` of an open file through /proc, as for O_TMPFILE. */
  linkFd: { args: Fd & { to: string }; value: number };
  /** `room`: bytes for the handle, default MAX_HANDLE_SZ (name_to_handle_at(2)). */
  nameToHandle: { args: At & { flags?: Flags; room?: number }; value: FileHandle };
  /** How many bytes of handle that call asks for where it has less room than it needs. */
  handleRoom: { args: At & { flags?: Flags; room: number }; value: number };
  /** `mountFd`: any open file of the filesystem. */
  openByHandle: { args: { mountFd: number; flags: Flags } & FileHandle; value: number };
  symlink: { args: { target: string; path: string }; value: number };
  readlink: { args: At; value: string };
  /** Names without the dots, sorted. */
  readdir: { args: { path: string }; value: string[] };
  /**
   * The same of an open directory: from its beginning, or with `bytes` as many as one getdents64(2) with so much room
   * gives from where it stands, in the order of the directory and with the dots.
   */
  readdirFd: { args: Fd & { bytes?: number }; value: string[] };
  /** All below a directory, itself first, each directory before what is in it and by name. */
  tree: { args: { path: string }; value: TreeEntry[] };
  chmod: { args: At & { mode: number }; value: number };
  fchmod: { args: Fd & { mode: number }; value: number };
  chown: { args: At & { uid: number; gid: number }; value: number };
  utimens: { args: At & { atimeNs: NewTime; mtimeNs: NewTime }; value: number };
  getxattr: { args: { path: string; name: string; size?: number }; value: Uint8Array };
  /** getxattr(2) with no room: how much the value takes. */
  getxattrSize: { args: { path: string; name: string }; value: number };
  setxattr: { args: { path: string; name: string; data: Uint8Array; flags?: Flags }; value: number };
  listxattr: { args: { path: string }; value: string[] };
  /** listxattr(2) with no room: how much the names take. */
  listxattrSize: { args: { path: string }; value: number };
  removexattr: { args: { path: string; name: string }; value: number };
  flock: { args: Fd & { operation: Flags }; value: number };
  setlk: {
    args: Fd & {
      type: FileLock['type'];
      start: number;
      length: number;
      wait?: boolean;
      ofd?: boolean;
    };
    value: number;
  };
  getlk: {
    args: Fd & { type: FileLock['type']; start: number; length: number; ofd?: boolean };
    value: FileLock;
  };
  mount: {
    args: { source: string; target: string; type: string; flags?: Flags; options?: string };
    value: number;
  };
  umount2: { args: { target: string; flags?: Flags }; value: number };
  /**
   * A further mount of the tree at `source` in which ids are mapped by the user namespace of a process
   * (open_tree, mount_setattr with MOUNT_ATTR_IDMAP, move_mount).
   */
  mountIdmapped: { args: { source: string; target: string; namespaceOf: number }; value: number };
  /**
   * A filesystem that is put together step by step (fsopen(2)), and one that is mounted and to be changed (fspick(2)).
   * read(2) on either gives one message of the kernel at a time: ENODATA when there is none.
   */
  fsopen: { args: { type: string }; value: number };
  fspick: { args: { path: string; flags?: Flags }; value: number };
  /** `command`: `FSCONFIG_SET_*` with a key and mostly a value, or `FSCONFIG_CMD_*` with neither; `aux`: a descriptor. */
  fsconfig: { args: Fd & { command: Flags; key?: string; value?: string; aux?: number }; value: number };
  memfd_create: { args: { name: string; flags?: Flags }; value: number };
  eventfd: { args: Record<string, never>; value: number };
  socketpair: { args: Record<string, never>; value: [number, number] };
  inotify_init: { args: Record<string, never>; value: number };
  /** The value is a watch descriptor; `mask`: `IN_*` names. */
  inotify_add_watch: { args: Fd & { path: string; mask: Flags }; value: number };
  /** All that there is to tell; EAGAIN when there is nothing. */
  inotify_read: { args: Fd; value: (FileEvent & { watch: number })[] };
  fanotify_init: { args: Record<string, never>; value: number };
  fanotify_mark: { args: Fd & { flags: Flags; mask: Flags; path: string }; value: number };
  fanotify_read: { args: Fd; value: (FileEvent & { pid: number })[] };
  /**
   * What there is to be had of `events`, which are `in|out` unless said otherwise (poll(2)): at once, or after
   * `waitMs` at most.
   */
  poll: { args: Fd & { waitMs?: number; events?: 'in|out' | 'rdnorm|wrnorm' }; value: string };
  /** Shares an open file description of another process, as fork or SCM_RIGHTS would (pidfd_getfd). */
  adoptFd: { args: { pid: number; fd: number }; value: number };
  /** glibc's setgroups, setresgid, setresuid: all threads, no way back. */
  setCredentials: { args: { uid: Ids; gid: Ids; groups?: number[] }; value: number };
  setrlimit: { args: { resource: string; soft: number; hard?: number }; value: number };
  /**
   * The calls one after the other, without a trip to the host in between; each gives its result, whether it
   * works or not. An argument that has no result to refer to, because that call failed, is -1. `digests`: bytes
   * that were read come as `BatchDigest`. `oneThread`: all by one thread, which shows what a call leaves behind
   * on it; no other call of the client goes on meanwhile.
   */
  batch: {
    args: { calls: readonly BatchCall[]; digests?: boolean; oneThread?: boolean };
    value: CallResult<unknown>[];
  };
  /** A signal by name and its disposition; SIGXFSZ must be ignored to see EFBIG. */
  signal: { args: { signal: string; disposition: 'ignore' | 'default' }; value: number };
  chdir: { args: { path: string }; value: number };
  umask: { args: { mask: number }; value: number };
  getpid: { args: Record<string, never>; value: number };
  /**
   * Another call, made while the `nth` allocation of its thread in the kernel fails: what it gave, and whether it
   * came to that allocation at all. `counter`: the client's `/proc/self/fail-nth`, open for both
   * (Documentation/fault-injection/fault-injection.rst).
   */
  failNth: {
    args: { counter: number; nth: number; call: string; args: object };
    value: { errno: string; value: unknown; injected: boolean };
  };
  /** open, read until the end, close. */
  readFile: { args: { path: string; flags?: Flags }; value: Uint8Array };
  /** open, write all, close. Default `O_WRONLY|O_CREAT|O_TRUNC`, 0644. */
  writeFile: { args: { path: string; data: Uint8Array; flags?: Flags; mode?: number }; value: number };
}

export type SyscallName = keyof Syscalls;

/** One name of a tree, as its directory and as lstat tell it. Inode numbers are decimal, and exact. */
export interface TreeEntry {
  /** Below the directory that was asked for; that itself is `.`. */
  readonly path: string;
  /** What getdents64(2) said of it; null for the directory that was asked for. */
  readonly entry: { readonly ino: string; readonly type: number } | null;
  /** Of a directory: the inode number that it lists for itself. */
  readonly dot?: string | undefined;
  readonly ino: string;
  readonly stat: Stat;
  /** SHA-1 of a file's bytes, the target of a link; or the errno. */
  readonly content: string;
  /** By name, as text; of links none. Or the errno. */
  readonly xattrs: Readonly<Record<string, string>> | string;
}

/** `struct file_handle` (open_by_handle_at(2)). */
export interface FileHandle {
  readonly type: number;
  readonly handle: Uint8Array;
}
