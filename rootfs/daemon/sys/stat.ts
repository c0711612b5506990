import type { CallResult, Stat } from '../../protocol/syscalls.ts';
import { viewOf } from './bytes.ts';
import { cString } from './memory.ts';
import { syscall } from './syscall.ts';

const STATX_BASIC_STATS = 0x7ff;
const STATX_BTIME = 0x800;
const STATX_BYTES = 256;
const INO_AT = 32;

/** statx(2), which stat and fstat are special cases of. `path` '' with AT_EMPTY_PATH means the descriptor. */
export async function statx(
  dirfd: number,
  path: string,
  flags: number,
  btime = false,
  mask = STATX_BASIC_STATS | (btime ? STATX_BTIME : 0),
): Promise<CallResult<Stat>> {
  const result = await rawStatx(dirfd, path, flags, mask);
  return 'errno' in result ? result : { value: parseStatx(result.value, btime) };
}

/** The same with the inode number as it is: those of overlays with xino are greater than a double can tell apart. */
export async function statxExactly(
  dirfd: number,
  path: string,
  flags: number,
): Promise<CallResult<{ readonly stat: Stat; readonly ino: bigint }>> {
  const result = await rawStatx(dirfd, path, flags, STATX_BASIC_STATS);
  if ('errno' in result) return result;
  const view = result.value;
  return { value: { stat: parseStatx(view, false), ino: view.getBigUint64(INO_AT, true) } };
}

async function rawStatx(
  dirfd: number,
  path: string,
  flags: number,
  mask: number,
): Promise<CallResult<DataView>> {
  const bytes = new Uint8Array(STATX_BYTES);
  const result = await syscall('statx', dirfd, cString(path), flags, mask, bytes);
  return 'errno' in result ? result : { value: viewOf(bytes) };
}

/** `struct statx` (linux/stat.h). */
function parseStatx(view: DataView, btime: boolean): Stat {
  const time = (at: number): number =>
    Number(view.getBigInt64(at, true)) * 1e9 + view.getUint32(at + 8, true);
  const u64 = (at: number): number => Number(view.getBigUint64(at, true));
  const u32 = (at: number): number => view.getUint32(at, true);
  return {
    mask: u32(0),
    blksize: u32(4),
    nlink: u32(16),
    uid: u32(20),
    gid: u32(24),
    mode: view.getUint16(28, true),
    ino: u64(INO_AT),
    size: u64(40),
    blocks: u64(48),
    atimeNs: time(64),
    ctimeNs: time(96),
    mtimeNs: time(112),
    ...(btime ? { btimeNs: (u32(0) & STATX_BTIME) === 0 ? null : time(80) } : {}),
    rdevMajor: u32(128),
    rdevMinor: u32(132),
    devMajor: u32(136),
    devMinor: u32(140),
  };
}
