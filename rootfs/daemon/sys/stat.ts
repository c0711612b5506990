import type { CallResult, Stat } from '../../protocol/syscalls.ts';
import { viewOf } from './bytes.ts';
import { cString } from './memory.ts';
import { syscall } from './syscall.ts';

const STATX_BASIC_STATS = 0x7ff;
const STATX_BTIME = 0x800;
const STATX_BYTES = 256;

/** statx(2), which stat and fstat are special cases of. `path` '' with AT_EMPTY_PATH means the descriptor. */
export async function statx(
  dirfd: number,
  path: string,
  flags: number,
  btime = false,
): Promise<CallResult<Stat>> {
  const bytes = new Uint8Array(STATX_BYTES);
  const mask = STATX_BASIC_STATS | (btime ? STATX_BTIME : 0);
  const result = await syscall('statx', dirfd, cString(path), flags, mask, bytes);
  return 'errno' in result ? result : { value: parseStatx(viewOf(bytes), btime) };
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
    ino: u64(32),
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
