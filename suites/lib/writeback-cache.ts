import type { Client } from './client.ts';
import type { FuseMount, FuseOptions } from './fuse-mount.ts';
import type { TestGuest } from './guest.ts';

/** With it, and without what the kernel does not let be beside it. */
export const WRITEBACK_CACHE = {
  addFlags: ['WRITEBACK_CACHE'],
  dropFlags: ['PASSTHROUGH', 'PASSTHROUGH_FD'],
} as const;

/** A mount where writes wait in the page cache of FUSE (FUSE_WRITEBACK_CACHE). */
export function mountWritebackCache(
  guest: TestGuest,
  { init, ...options }: FuseOptions = {},
): Promise<FuseMount> {
  return guest.mountFuse({
    passthrough: 'off',
    init: { ...WRITEBACK_CACHE, ...init },
    ...options,
  });
}

/** Has the kernel begin to write back, without waiting for it. */
export async function beginWriteback(client: Client, fd: number): Promise<void> {
  await client.sync_file_range({ fd, offset: 0, length: 0, flags: 'SYNC_FILE_RANGE_WRITE' });
}

const PAGE = 4096;

/** A page of one byte. */
export function pageOf(value: number): Uint8Array {
  return new Uint8Array(PAGE).fill(value);
}

/** Page and pages of each WRITE, in the order in which they came. */
export async function pagesWritten(fuse: FuseMount, after: number): Promise<[number, number][]> {
  const requests = await fuse.requests({ opcode: 'WRITE', after });
  return requests.map(({ args }) => [Number(args['offset']) / PAGE, Number(args['size']) / PAGE]);
}

/** KiB of pages that FUSE has copied to write them. */
export async function beingWritten(guest: TestGuest): Promise<string | undefined> {
  // What each CPU has counted by itself is put together by a look at this file (sysctl/vm.rst).
  const { stdout } = await guest.run(['sh', '-c', 'cat /proc/sys/vm/stat_refresh /proc/meminfo']);
  return /^WritebackTmp: +(\d+) kB$/mu.exec(stdout)?.[1];
}
