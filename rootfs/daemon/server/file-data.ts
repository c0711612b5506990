import {
  constants,
  fdatasyncSync,
  fsyncSync,
  lstatSync,
  readdirSync,
  readSync,
  statfsSync,
  writeSync,
} from 'node:fs';
import { joinBytes, padTo8, struct } from '../fuse/reply.ts';
import { numberField, type Request } from '../fuse/request.ts';
import { viewOf } from '../sys/bytes.ts';
import { cString } from '../sys/memory.ts';
import { SystemError, syscallSync, valueOf } from '../sys/syscall.ts';
import { NOTHING, type FileSystem } from './file-system.ts';

/** Requests on the contents of files and directories. */

export function read(fs: FileSystem, request: Request): Uint8Array {
  const { fd } = fs.handleOf(request);
  const buffer = new Uint8Array(numberField(request, 'size'));
  const length = readSync(fd, buffer, 0, buffer.length, numberField(request, 'offset'));
  return buffer.subarray(0, length);
}

export function write(fs: FileSystem, request: Request): Uint8Array {
  const { fd } = fs.handleOf(request);
  const { data } = request;
  const size = writeSync(fd, data, 0, data.length, numberField(request, 'offset'));
  return struct('write', { size });
}

export function fsync(fs: FileSystem, request: Request): Uint8Array {
  const { fd } = fs.handleOf(request);
  if (numberField(request, 'fsync_flags') & 1) fdatasyncSync(fd);
  else fsyncSync(fd);
  return NOTHING;
}

export function fallocate(fs: FileSystem, request: Request): Uint8Array {
  const { fd } = fs.handleOf(request);
  const [mode, offset, length] = ['mode', 'offset', 'length'].map((name) => numberField(request, name));
  valueOf('fallocate', syscallSync('fallocate', fd, mode ?? 0, offset ?? 0, length ?? 0));
  return NOTHING;
}

export function lseek(fs: FileSystem, request: Request): Uint8Array {
  const { fd } = fs.handleOf(request);
  const whence = numberField(request, 'whence');
  const offset = valueOf('lseek', syscallSync('lseek', fd, numberField(request, 'offset'), whence));
  return struct('lseek', { offset });
}

/** @returns bytes copied. */
export function copyFileRange(fs: FileSystem, request: Request): number {
  const from = fs.handleOf(request, 'fh_in');
  const to = fs.handleOf(request, 'fh_out');
  const offsets = new Uint8Array(16);
  const view = viewOf(offsets);
  view.setBigUint64(0, BigInt(numberField(request, 'off_in')), true);
  view.setBigUint64(8, BigInt(numberField(request, 'off_out')), true);
  const [offIn, offOut] = [offsets.subarray(0, 8), offsets.subarray(8)];
  const length = numberField(request, 'len');
  return valueOf('copy', syscallSync('copy_file_range', from.fd, offIn, to.fd, offOut, length, 0));
}

export function statfs(fs: FileSystem): Uint8Array {
  const stat = statfsSync(fs.options.root);
  const { blocks, bfree, bavail, files, ffree, bsize } = stat;
  return struct('statfs', { blocks, bfree, bavail, files, ffree, bsize, frsize: bsize, namelen: 255 });
}

// --- directories ---------------------------------------------------------------------------------------

/** Entries from the position the kernel names until the answer is full; positions are indices. */
export function readdir(fs: FileSystem, request: Request, plus: boolean): Uint8Array {
  const offset = numberField(request, 'offset');
  let room = numberField(request, 'size');
  const parts: Uint8Array[] = [];
  for (const [index, name] of entriesOf(fs, request).slice(offset).entries()) {
    const part = directoryEntry(fs, request, { name, next: offset + index + 1, plus, room });
    if (part === undefined) break;
    room -= part.length;
    parts.push(part);
  }
  return joinBytes(...parts);
}

/** As they were when the kernel last began; a server without OPENDIR has no handle to keep them at. */
function entriesOf(fs: FileSystem, request: Request): readonly string[] {
  const list = (): string[] => ['.', '..', ...readdirSync(fs.absolute(request.nodeid)).sort()];
  const handle = fs.handles.get(numberField(request, 'fh'));
  if (handle === undefined) return list();
  if (numberField(request, 'offset') === 0 || handle.entries === undefined) handle.entries = list();
  return handle.entries;
}

interface EntryRequest {
  readonly name: string;
  readonly next: number;
  readonly plus: boolean;
  readonly room: number;
}

const ENTRY_BYTES = 128;
const DIRENT_BYTES = 24;

function directoryEntry(fs: FileSystem, request: Request, want: EntryRequest): Uint8Array | undefined {
  const name = Buffer.from(want.name, 'utf8');
  const bytes = (want.plus ? ENTRY_BYTES : 0) + Math.ceil((DIRENT_BYTES + name.length) / 8) * 8;
  if (bytes > want.room) return undefined;
  const dots = want.name === '.' || want.name === '..';
  const path = dots ? fs.inodes.nameOf(request.nodeid) : fs.childName(request, request.nodeid, want.name);
  const stat = lstatSync(fs.inodes.absolute(path ?? '/'), { bigint: true, throwIfNoEntry: false });
  if (stat === undefined) return new Uint8Array();
  const type = (Number(stat.mode) & constants.S_IFMT) >> 12;
  const head = struct('dirent', { ino: stat.ino, off: want.next, namelen: name.length, type });
  const dirent = padTo8(joinBytes(head, name));
  if (!want.plus) return dirent;
  // READDIRPLUS counts as a lookup of each entry, except the two dots, whose nodeid stays 0.
  return joinBytes(dots ? new Uint8Array(ENTRY_BYTES) : fs.entryOf(path ?? '/').body, dirent);
}

// --- extended attributes -------------------------------------------------------------------------------

export function getxattr(fs: FileSystem, request: Request): Uint8Array {
  const path = cString(fs.reach(request.nodeid));
  return sizedAnswer(request, (buffer) => {
    return syscallSync('getxattr', path, cString(request.name), buffer, buffer?.length ?? 0);
  });
}

export function listxattr(fs: FileSystem, request: Request): Uint8Array {
  const path = cString(fs.reach(request.nodeid));
  return sizedAnswer(request, (buffer) => syscallSync('listxattr', path, buffer, buffer?.length ?? 0));
}

export function setxattr(fs: FileSystem, request: Request): Uint8Array {
  const path = cString(fs.reach(request.nodeid));
  const value = request.data.subarray(0, numberField(request, 'size'));
  const flags = numberField(request, 'flags');
  valueOf('setxattr', syscallSync('setxattr', path, cString(request.name), value, value.length, flags));
  return NOTHING;
}

export function removexattr(fs: FileSystem, request: Request): Uint8Array {
  const path = cString(fs.reach(request.nodeid));
  valueOf('removexattr', syscallSync('removexattr', path, cString(request.name)));
  return NOTHING;
}

/** Size 0 asks how much room is needed. */
function sizedAnswer(
  request: Request,
  call: (buffer: Uint8Array | null) => ReturnType<typeof syscallSync>,
): Uint8Array {
  const size = numberField(request, 'size');
  const buffer = size === 0 ? null : new Uint8Array(size);
  const length = valueOf('xattr', call(buffer));
  if (buffer === null) return struct('getxattr', { size: length });
  if (length > size) throw new SystemError('xattr', 'ERANGE');
  return buffer.subarray(0, length);
}
