import type { FuseMount, FuseOptions } from './fuse-mount.ts';
import type { TestGuest } from './guest.ts';

/** A mount where writes wait in the page cache of FUSE (FUSE_WRITEBACK_CACHE). */
export function mountWritebackCache(
  guest: TestGuest,
  { init, ...options }: FuseOptions = {},
): Promise<FuseMount> {
  return guest.mountFuse({
    passthrough: 'off',
    init: { addFlags: ['WRITEBACK_CACHE'], dropFlags: ['PASSTHROUGH', 'PASSTHROUGH_FD'], ...init },
    ...options,
  });
}
