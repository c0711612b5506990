import { OpenFlag } from '#rootfs/protocol/fuse.ts';
import type { InitReply } from '#rootfs/protocol/server-calls.ts';
import type { Client } from './client.ts';
import type { FuseMount } from './fuse-mount.ts';
import type { TestGuest } from './guest.ts';

/** An answer to INIT that turns the feature down, in either generation. */
export const WITHOUT_PASSTHROUGH: InitReply = { dropFlags: ['PASSTHROUGH', 'PASSTHROUGH_FD'] };

/** Ends the test as skipped where an id serves one open only. */
export function needsLastingIds(guest: TestGuest): void {
  guest.needs(guest.expected.idsAreReusable, 'ids that last: the open that is answered with one uses it up');
}

/** Ends the test as skipped where an id serves any number of opens. */
export function needsSingleUseIds(guest: TestGuest): void {
  guest.needs(!guest.expected.idsAreReusable, 'ids that one open uses up: they last until BACKING_CLOSE');
}

/** Ends the test as skipped where a mapping of a passthrough file goes through FUSE's page cache. */
export function needsMappings(guest: TestGuest): void {
  guest.needs(guest.expected.mapsBackingFile, 'mmap in passthrough mode: it maps the cache of FUSE');
}

/** Opens a file with the answer naming that id. @throws SyscallError */
export async function openWithId(
  guest: TestGuest,
  client: Client,
  how: { readonly fuse: FuseMount; readonly id: number; readonly name?: string; readonly flags?: string },
): Promise<number> {
  const { fuse, id, name = 'f', flags = 'O_RDWR' } = how;
  const answer = { openFlags: guest.expected.passthroughFlag, backingId: id };
  const takeBack = await fuse.answerOpen({ opcode: ['OPEN', 'CREATE'], path: `/${name}` }, answer, 1);
  try {
    return await client.open({ path: fuse.file(name), flags });
  } finally {
    await takeBack();
  }
}

/**
 * Has the kernel forget an id that no open file depends on: by BACKING_CLOSE, or else by using it up for a
 * directory. @returns `ok` or the errno.
 */
export async function forgetId(
  guest: TestGuest,
  client: Client,
  { fuse, id }: { readonly fuse: FuseMount; readonly id: number },
): Promise<string> {
  if (guest.expected.hasClose) return fuse.server.closeBacking(id);
  const after = await fuse.position();
  await fuse.answerOpen('OPENDIR', { openFlags: 0, backingId: id }, 1);
  await client.readdir({ path: fuse.path });
  await fuse.waitFor({ opcode: 'RELEASEDIR', after });
  return 'ok';
}

/** Every bit of `fuse_open_out.open_flags` that has a meaning somewhere, one at a time, and two that have none. */
export const OPEN_FLAG_BITS: Readonly<Record<string, number>> = {
  ...OpenFlag,
  'unknown bit 8': 1 << 8,
  'unknown bit 30': 1 << 30,
};
