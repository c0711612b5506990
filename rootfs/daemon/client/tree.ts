import type { CallResult, Stat, TreeEntry } from '../../protocol/syscalls.ts';
import { flagBits } from '../sys/constants.ts';
import { sha1 } from '../sys/digest.ts';
import { cString } from '../sys/memory.ts';
import { statxExactly } from '../sys/stat.ts';
import { syscall } from '../sys/syscall.ts';
import { AT_FDCWD, mapValue } from './call-table.ts';
import { direntsOf } from './dirents.ts';

const NOFOLLOW = flagBits('AT_SYMLINK_NOFOLLOW');
const KIND = 0o170_000;
const DIRECTORY = 0o040_000;
const LINK = 0o120_000;
const REGULAR = 0o100_000;
const ROOM_BYTES = 4096;
const READ_BYTES = 64 * 1024;

/** A name that vanishes or cannot be looked at meanwhile ends the walk with its errno. */
export async function treeBelow(path: string): Promise<CallResult<TreeEntry[]>> {
  const found = await statxExactly(AT_FDCWD, path, NOFOLLOW);
  return 'errno' in found ? found : walk({ path, below: '.', entry: null, ...found.value });
}

interface Here {
  readonly path: string;
  readonly below: string;
  readonly entry: TreeEntry['entry'];
  readonly stat: Stat;
  readonly ino: bigint;
}

async function walk({ path, below, entry, stat, ino }: Here): Promise<CallResult<TreeEntry[]>> {
  const kind = stat.mode & KIND;
  const shown = {
    path: below,
    entry,
    stat,
    ino: ino.toString(),
    content: await contentOf(path, kind),
    xattrs: kind === LINK ? {} : await xattrsOf(path),
  };
  if (kind !== DIRECTORY) return { value: [shown] };
  const listed = await direntsOf(path);
  if ('errno' in listed) return listed;
  const all: TreeEntry[] = [{ ...shown, dot: listed.value.find(({ name }) => name === '.')?.ino }];
  const names = listed.value.filter(({ name }) => name !== '.' && name !== '..');
  for (const { name, ...listing } of names.sort((a, b) => (a.name < b.name ? -1 : 1))) {
    const at = `${path}/${name}`;
    const found = await statxExactly(AT_FDCWD, at, NOFOLLOW);
    if ('errno' in found) return found;
    const to = below === '.' ? name : `${below}/${name}`;
    const more = await walk({ path: at, below: to, entry: listing, ...found.value });
    if ('errno' in more) return more;
    all.push(...more.value);
  }
  return { value: all };
}

async function contentOf(path: string, kind: number): Promise<string> {
  if (kind === LINK) {
    const bytes = Buffer.alloc(ROOM_BYTES);
    const read = await syscall('readlinkat', AT_FDCWD, cString(path), bytes, bytes.length);
    return orErrno(mapValue(read, (length) => bytes.toString('utf8', 0, length)));
  }
  if (kind !== REGULAR) return '';
  const opened = await syscall('openat', AT_FDCWD, cString(path), flagBits('O_RDONLY'), 0);
  if ('errno' in opened) return opened.errno;
  const hash = sha1();
  const bytes = Buffer.alloc(READ_BYTES);
  let read = await syscall('read', opened.value, bytes, bytes.length);
  while (!('errno' in read) && read.value > 0) {
    hash.update(bytes.subarray(0, read.value));
    read = await syscall('read', opened.value, bytes, bytes.length);
  }
  await syscall('close', opened.value);
  return 'errno' in read ? read.errno : hash.digest('hex');
}

async function xattrsOf(path: string): Promise<TreeEntry['xattrs']> {
  const bytes = Buffer.alloc(ROOM_BYTES);
  const listed = await syscall('listxattr', cString(path), bytes, bytes.length);
  if ('errno' in listed) return listed.errno;
  const names = bytes.toString('utf8', 0, listed.value).split('\0').filter(Boolean);
  const xattrs: Record<string, string> = {};
  for (const name of names.sort()) {
    const got = await syscall('getxattr', cString(path), cString(name), bytes, bytes.length);
    xattrs[name] = orErrno(mapValue(got, (length) => bytes.toString('latin1', 0, length)));
  }
  return xattrs;
}

function orErrno(result: CallResult<string>): string {
  return 'errno' in result ? result.errno : result.value;
}
