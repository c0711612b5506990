import type { CallResult, NewTime, Stat, Syscalls } from '../../protocol/syscalls.ts';
import { viewOf } from '../sys/bytes.ts';
import { flagBits } from '../sys/constants.ts';
import { cString } from '../sys/memory.ts';
import { statx } from '../sys/stat.ts';
import { syscall } from '../sys/syscall.ts';
import { AT_FDCWD, mapValue, type CallTable } from './call-table.ts';
import { direntsIn, direntsOf, someDirentsIn, type Dirent } from './dirents.ts';
import { treeBelow } from './tree.ts';

const NOFOLLOW = flagBits('AT_SYMLINK_NOFOLLOW');
const XATTR_MAX_BYTES = 65_536;
/** linux/fs.h: `struct file_handle` before its handle, and MAX_HANDLE_SZ. */
const HANDLE_HEADER_BYTES = 8;
const MAX_HANDLE_BYTES = 128;

/** What the kernel has made of a `struct file_handle` with so much room, also where it was too little. */
async function nameToHandle({
  dirfd,
  path,
  flags,
  room,
}: Syscalls['handleRoom']['args']): Promise<{ result: CallResult<number>; bytes: Uint8Array }> {
  const bytes = new Uint8Array(HANDLE_HEADER_BYTES + room);
  viewOf(bytes).setUint32(0, room, true);
  const mountId = new Uint8Array(4);
  const at = dirfd ?? AT_FDCWD;
  const result = await syscall('name_to_handle_at', at, cString(path), bytes, mountId, flagBits(flags));
  return { result, bytes };
}

function handleBytes(handle: Uint8Array): number {
  return viewOf(handle).getUint32(0, true);
}

/** Calls that name files: the tree, attributes, extended attributes, mounts. */
export const treeCalls = {
  stat: ({ dirfd, path, flags, btime, mask }): Promise<CallResult<Stat>> => {
    return statx(dirfd ?? AT_FDCWD, path, flagBits(flags), btime, mask);
  },
  lstat: ({ dirfd, path }) => statx(dirfd ?? AT_FDCWD, path, NOFOLLOW),
  access: ({ dirfd, path, mode }) => {
    return syscall('faccessat2', dirfd ?? AT_FDCWD, cString(path), flagBits(mode), 0);
  },
  statfs: async ({ path }) => {
    const bytes = new Uint8Array(120);
    return mapValue(await syscall('statfs', cString(path), bytes), () => {
      const word = (index: number): number => Number(viewOf(bytes).getBigInt64(8 * index, true));
      return {
        type: word(0),
        bsize: word(1),
        blocks: word(2),
        bfree: word(3),
        bavail: word(4),
        files: word(5),
        ffree: word(6),
        fsid: viewOf(bytes).getBigUint64(56, true).toString(16),
        namelen: word(8),
        frsize: word(9),
      };
    });
  },
  mkdir: ({ dirfd, path, mode }) => syscall('mkdirat', dirfd ?? AT_FDCWD, cString(path), mode ?? 0o755),
  mknod: ({ dirfd, path, mode, major, minor }) => {
    const [high, low] = [major ?? 0, minor ?? 0];
    const device = (low & 0xff) | (high << 8) | ((low & ~0xff) << 12);
    return syscall('mknodat', dirfd ?? AT_FDCWD, cString(path), mode, device);
  },
  rmdir: ({ dirfd, path }) => {
    return syscall('unlinkat', dirfd ?? AT_FDCWD, cString(path), flagBits('AT_REMOVEDIR'));
  },
  unlink: ({ dirfd, path }) => syscall('unlinkat', dirfd ?? AT_FDCWD, cString(path), 0),
  rename: ({ from, to, flags }) => {
    return syscall('renameat2', AT_FDCWD, cString(from), AT_FDCWD, cString(to), flagBits(flags));
  },
  link: ({ from, to, flags }) => {
    return syscall('linkat', AT_FDCWD, cString(from), AT_FDCWD, cString(to), flagBits(flags));
  },
  linkFd: ({ fd, to }) => {
    const source = cString(`/proc/self/fd/${fd}`);
    return syscall('linkat', AT_FDCWD, source, AT_FDCWD, cString(to), flagBits('AT_SYMLINK_FOLLOW'));
  },
  nameToHandle: async ({ room = MAX_HANDLE_BYTES, ...what }) => {
    const { result, bytes } = await nameToHandle({ room, ...what });
    return mapValue(result, () => ({
      type: viewOf(bytes).getInt32(4, true),
      handle: bytes.slice(HANDLE_HEADER_BYTES, HANDLE_HEADER_BYTES + handleBytes(bytes)),
    }));
  },
  handleRoom: async (what) => {
    const { result, bytes } = await nameToHandle(what);
    const tooLittle = 'errno' in result && result.errno === 'EOVERFLOW';
    return tooLittle ? { value: handleBytes(bytes) } : result;
  },
  openByHandle: ({ mountFd, type, handle, flags }) => {
    const bytes = new Uint8Array(HANDLE_HEADER_BYTES + handle.length);
    viewOf(bytes).setUint32(0, handle.length, true);
    viewOf(bytes).setInt32(4, type, true);
    bytes.set(handle, HANDLE_HEADER_BYTES);
    return syscall('open_by_handle_at', mountFd, bytes, flagBits(flags));
  },
  symlink: ({ target, path }) => syscall('symlinkat', cString(target), AT_FDCWD, cString(path)),
  readlink: async ({ dirfd, path }) => {
    const bytes = Buffer.alloc(4096);
    const result = await syscall('readlinkat', dirfd ?? AT_FDCWD, cString(path), bytes, bytes.length);
    return mapValue(result, (length) => bytes.toString('utf8', 0, length));
  },
  readdir: async ({ path }) => namesOf(await direntsOf(path)),
  readdirFd: async ({ fd, bytes }) => {
    if (bytes !== undefined) {
      return mapValue(await someDirentsIn(fd, bytes), (entries) => entries.map(({ name }) => name));
    }
    const result = await syscall('lseek', fd, 0, 0);
    return 'errno' in result ? result : namesOf(await direntsIn(fd));
  },
  tree: ({ path }) => treeBelow(path),
  chmod: ({ dirfd, path, mode }) => syscall('fchmodat', dirfd ?? AT_FDCWD, cString(path), mode),
  chown: ({ dirfd, path, uid, gid }) => syscall('fchownat', dirfd ?? AT_FDCWD, cString(path), uid, gid, 0),
  utimens: ({ dirfd, path, atimeNs, mtimeNs }) => {
    return syscall('utimensat', dirfd ?? AT_FDCWD, cString(path), timePair(atimeNs, mtimeNs), 0);
  },
  getxattr: async ({ path, name, size }) => {
    const bytes = new Uint8Array(size ?? XATTR_MAX_BYTES);
    const result = await syscall('getxattr', cString(path), cString(name), bytes, bytes.length);
    return mapValue(result, (length) => bytes.subarray(0, length));
  },
  getxattrSize: ({ path, name }) => syscall('getxattr', cString(path), cString(name), null, 0),
  setxattr: ({ path, name, data, flags }) => {
    return syscall('setxattr', cString(path), cString(name), data, data.length, flagBits(flags));
  },
  listxattr: async ({ path }) => {
    const bytes = Buffer.alloc(XATTR_MAX_BYTES);
    const result = await syscall('listxattr', cString(path), bytes, bytes.length);
    return mapValue(result, (length) => bytes.toString('utf8', 0, length).split('\0').filter(Boolean));
  },
  listxattrSize: ({ path }) => syscall('listxattr', cString(path), null, 0),
  removexattr: ({ path, name }) => syscall('removexattr', cString(path), cString(name)),
  mount: ({ source, target, type, flags, options }) => {
    const strings = [cString(source), cString(target), cString(type)] as const;
    return syscall('mount', ...strings, flagBits(flags), options === undefined ? null : cString(options));
  },
  umount2: ({ target, flags }) => syscall('umount2', cString(target), flagBits(flags)),
  mountIdmapped: ({ source, target, namespaceOf }) => mountIdmapped(source, target, namespaceOf),
  fsopen: ({ type }) => syscall('fsopen', cString(type), 0),
  fspick: ({ path, flags }) => syscall('fspick', AT_FDCWD, cString(path), flagBits(flags)),
  fsconfig: ({ fd, command, key, value, aux }) => {
    const [name, text] = [key, value].map((each) => (each === undefined ? null : cString(each)));
    return syscall('fsconfig', fd, flagBits(command), name ?? null, text ?? null, aux ?? 0);
  },
} satisfies Partial<CallTable>;

/** linux/mount.h; OPEN_TREE_CLOEXEC is O_CLOEXEC. */
const OPEN_TREE_CLONE = 1;
const MOVE_MOUNT_F_EMPTY_PATH = 4;
const MOUNT_ATTR_IDMAP = 0x0010_0000n;
/** `struct mount_attr`: attr_set, attr_clr, propagation, userns_fd, eight bytes each. */
const MOUNT_ATTR_BYTES = 32;

async function mountIdmapped(source: string, target: string, pid: number): Promise<CallResult<number>> {
  const namespace = await syscall(
    'openat',
    AT_FDCWD,
    cString(`/proc/${pid}/ns/user`),
    flagBits('O_RDONLY'),
    0,
  );
  if ('errno' in namespace) return namespace;
  const attr = new Uint8Array(MOUNT_ATTR_BYTES);
  viewOf(attr).setBigUint64(0, MOUNT_ATTR_IDMAP, true);
  viewOf(attr).setBigUint64(24, BigInt(namespace.value), true);
  const tree = await syscall('open_tree', AT_FDCWD, cString(source), OPEN_TREE_CLONE | flagBits('O_CLOEXEC'));
  let result = tree;
  if (!('errno' in tree)) {
    const empty = cString('');
    result = await syscall('mount_setattr', tree.value, empty, flagBits('AT_EMPTY_PATH'), attr, attr.length);
    if (!('errno' in result)) {
      const to = [AT_FDCWD, cString(target), MOVE_MOUNT_F_EMPTY_PATH] as const;
      result = await syscall('move_mount', tree.value, empty, ...to);
    }
    await syscall('close', tree.value);
  }
  await syscall('close', namespace.value);
  return result;
}

const UTIME_NOW = 0x3fff_ffffn;
const UTIME_OMIT = 0x3fff_fffen;

function timePair(...times: readonly NewTime[]): Uint8Array {
  const bytes = new Uint8Array(32);
  times.forEach((time, index) => {
    const ns = BigInt(typeof time === 'number' ? Math.round(time) : 0);
    const part = time === null ? UTIME_OMIT : time === 'now' ? UTIME_NOW : ns % 1_000_000_000n;
    viewOf(bytes).setBigInt64(16 * index, ns / 1_000_000_000n, true);
    viewOf(bytes).setBigInt64(16 * index + 8, part, true);
  });
  return bytes;
}

/** Without the dots, sorted: the order of a directory means nothing. */
function namesOf(listed: CallResult<Dirent[]>): CallResult<string[]> {
  return mapValue(listed, (entries) => {
    return entries
      .map(({ name }) => name)
      .filter((name) => name !== '.' && name !== '..')
      .sort();
  });
}
