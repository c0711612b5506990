import type { CallResult } from '../../protocol/syscalls.ts';
import { viewOf } from '../sys/bytes.ts';
import { flagBits } from '../sys/constants.ts';
import { alignedBytes, alignedCopy, cString, ioVectors } from '../sys/memory.ts';
import { statx } from '../sys/stat.ts';
import { syscall } from '../sys/syscall.ts';
import { AT_FDCWD, mapValue, type CallTable } from './call-table.ts';

/** An address in the first page, of which nobody has anything. */
const NOWHERE = 16;

/** Opening, reading, writing, positions, sizes: everything on one descriptor. */
export const fileCalls = {
  open: ({ dirfd, path, flags, mode }) => {
    return syscall('openat', dirfd ?? AT_FDCWD, cString(path), flagBits(flags), mode ?? 0o644);
  },
  creat: ({ dirfd, path, mode }) => {
    const flags = flagBits('O_CREAT|O_WRONLY|O_TRUNC');
    return syscall('openat', dirfd ?? AT_FDCWD, cString(path), flags, mode ?? 0o644);
  },
  close: ({ fd }) => syscall('close', fd),
  read: async ({ fd, count, misalign }) => {
    const buffer = alignedBytes(count, misalign);
    return mapValue(await syscall('read', fd, buffer, count), (length) => buffer.subarray(0, length));
  },
  pread: async ({ fd, count, offset, misalign, nowhere }) => {
    const buffer = alignedBytes(count, misalign);
    const result = await syscall('pread64', fd, nowhere === true ? NOWHERE : buffer, count, offset);
    return mapValue(result, (length) => buffer.subarray(0, length));
  },
  write: ({ fd, data, misalign }) => syscall('write', fd, alignedCopy(data, misalign), data.length),
  pwrite: ({ fd, data, offset, misalign, nowhere }) => {
    const buffer = nowhere === true ? NOWHERE : alignedCopy(data, misalign);
    return syscall('pwrite64', fd, buffer, data.length, offset);
  },
  readv: ({ fd, counts }) => readVectors(fd, counts, -1, 0),
  preadv2: ({ fd, counts, offset, flags }) => readVectors(fd, counts, offset ?? -1, flagBits(flags)),
  writev: ({ fd, chunks }) => writeVectors(fd, chunks, -1, 0),
  pwritev2: ({ fd, chunks, offset, flags }) => writeVectors(fd, chunks, offset ?? -1, flagBits(flags)),
  lseek: ({ fd, offset, whence }) => syscall('lseek', fd, offset, flagBits(whence)),
  fsync: ({ fd }) => syscall('fsync', fd),
  fdatasync: ({ fd }) => syscall('fdatasync', fd),
  syncfs: ({ fd }) => syscall('syncfs', fd),
  ftruncate: ({ fd, length }) => syscall('ftruncate', fd, length),
  truncate: ({ path, length }) => syscall('truncate', cString(path), length),
  fallocate: ({ fd, mode, offset, length }) => syscall('fallocate', fd, flagBits(mode), offset, length),
  posix_fadvise: ({ fd, offset, length, advice }) => {
    return syscall('fadvise64', fd, offset, length, flagBits(advice));
  },
  readahead: ({ fd, offset, count }) => syscall('readahead', fd, offset, count),
  sync_file_range: ({ fd, offset, length, flags }) => {
    return syscall('sync_file_range', fd, offset, length, flagBits(flags));
  },
  fstat: ({ fd, flags, btime }) => statx(fd, '', flagBits('AT_EMPTY_PATH') | flagBits(flags), btime),
  dup: ({ fd }) => syscall('dup', fd),
  dup2: ({ fd, newFd }) => syscall('dup3', fd, newFd, 0),
  fchmod: ({ fd, mode }) => syscall('fchmod', fd, mode),
  ioctl: async ({ fd, request, arg }) => {
    const bytes = arg instanceof Uint8Array ? Uint8Array.from(arg) : null;
    const word = bytes ?? (typeof arg === 'number' ? arg : 0);
    return mapValue(await syscall('ioctl', fd, request, word), (ret) => ({ ret, arg: bytes }));
  },
  readFile: async ({ path, flags }) => {
    const opened = await syscall('openat', AT_FDCWD, cString(path), flagBits(flags ?? 'O_RDONLY'), 0);
    if ('errno' in opened) return opened;
    return closing(opened.value, readAll(opened.value));
  },
  writeFile: async ({ path, data, flags, mode }) => {
    const bits = flagBits(flags ?? 'O_WRONLY|O_CREAT|O_TRUNC');
    const opened = await syscall('openat', AT_FDCWD, cString(path), bits, mode ?? 0o644);
    if ('errno' in opened) return opened;
    return closing(opened.value, writeAll(opened.value, data));
  },
} satisfies Partial<CallTable>;

/** The position of preadv2 is two words, the high one unused on 64-bit machines. */
async function readVectors(
  fd: number,
  counts: readonly number[],
  offset: number,
  flags: number,
): Promise<CallResult<Uint8Array>> {
  const buffers = counts.map((count) => alignedBytes(count));
  const result = await syscall('preadv2', fd, ioVectors(buffers), buffers.length, offset, 0, flags);
  return mapValue(result, (length) => Buffer.concat(buffers).subarray(0, length));
}

async function writeVectors(
  fd: number,
  chunks: readonly Uint8Array[],
  offset: number,
  flags: number,
): Promise<CallResult<number>> {
  const buffers = chunks.map((chunk) => alignedCopy(chunk));
  const result = await syscall('pwritev2', fd, ioVectors(buffers), buffers.length, offset, 0, flags);
  // The vector holds bare addresses: this keeps the buffers reachable until the call is over.
  return buffers.length === chunks.length ? result : { errno: 'EINVAL' };
}

async function closing<T>(fd: number, work: Promise<CallResult<T>>): Promise<CallResult<T>> {
  const result = await work;
  const closed = await syscall('close', fd);
  return 'errno' in result || !('errno' in closed) ? result : closed;
}

const CHUNK_BYTES = 1024 * 1024;

async function readAll(fd: number): Promise<CallResult<Uint8Array>> {
  const parts: Uint8Array[] = [];
  for (;;) {
    const buffer = alignedBytes(CHUNK_BYTES);
    const result = await syscall('read', fd, buffer, buffer.length);
    if ('errno' in result) return result;
    if (result.value === 0) return { value: Buffer.concat(parts) };
    parts.push(buffer.subarray(0, result.value));
  }
}

async function writeAll(fd: number, data: Uint8Array): Promise<CallResult<number>> {
  const copy = alignedCopy(data);
  let done = 0;
  while (done < copy.length) {
    const result = await syscall('write', fd, copy.subarray(done), copy.length - done);
    if ('errno' in result) return result;
    done += result.value;
  }
  return { value: done };
}

/** `pipe2` and `socketpair` give two descriptors. */
export function pairOf(bytes: Uint8Array): [number, number] {
  return [viewOf(bytes).getInt32(0, true), viewOf(bytes).getInt32(4, true)];
}
