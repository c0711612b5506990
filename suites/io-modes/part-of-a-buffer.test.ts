import { firstDifference, pattern } from '../lib/bytes.ts';
import { SyscallError, type Client } from '../lib/client.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';
import { mountWritebackCache } from '../lib/writeback-cache.ts';

/**
 * Writes of a page whose buffer is there at its beginning only: a write may end where its buffer does (write(2)), and
 * leaves alone what it has not written.
 */

const PAGE = 4096;
/** Bytes of the buffer that are there. */
const THERE = 100;

/** Writes such a buffer over the first page. @returns how many bytes it says it has written, or its error. */
async function writePart(guest: TestGuest, client: Client, fd: number): Promise<number | string> {
  const memory = `${await guest.directory('tmpfs')}/memory`;
  await client.writeFile({ path: memory, data: pattern(PAGE, 9) });
  const memoryFd = await client.open({ path: memory, flags: 'O_RDWR' });
  // Behind the end of a file a mapping has no pages.
  const how = { length: 2 * PAGE, prot: 'PROT_READ|PROT_WRITE', flags: 'MAP_SHARED' };
  const map = await client.mmap({ fd: memoryFd, ...how });
  await client.close({ fd: memoryFd });
  try {
    return await client.writeFrom({ fd, map, offset: PAGE - THERE, length: PAGE });
  } catch (error) {
    if (error instanceof SyscallError) return error.errno;
    throw error;
  } finally {
    await client.munmap({ map });
  }
}

for (const back of [false, true]) {
  guestTest(
    `a write ${back ? 'into' : 'through'} the cache of whose buffer only the beginning is there changes what it says it has written, and nothing else`,
    async (t, guest) => {
      await using fuse = await (back
        ? mountWritebackCache(guest)
        : guest.mountFuse({ passthrough: 'off', openFlags: 0 }));
      await using client = await guest.client();
      for (const [where, path] of [
        ['ext4', fuse.backing('native')],
        ['FUSE', fuse.file('f')],
      ] as const) {
        const stored = where === 'FUSE' ? fuse.backing('f') : path;
        const before = pattern(2 * PAGE);
        await client.writeFile({ path: stored, data: before });
        const fd = await client.open({ path, flags: 'O_RDWR' });
        const written = await writePart(guest, client, fd);
        if (where === 'ext4') t.is(written, THERE, `${where}: what it says`);
        else t.true(written === THERE || written === 'EFAULT', `${where}: it says ${written}`);
        t.is(await client.errno.fsync({ fd }), 'ok', where);
        const wanted = Uint8Array.from(before);
        if (typeof written === 'number') {
          wanted.set(
            pattern(PAGE, 9)
              .subarray(PAGE - THERE)
              .subarray(0, written),
          );
        }
        for (const [whose, from] of [
          ['what is read', path],
          ['what is stored', stored],
        ] as const) {
          const seen = await client.readFile({ path: from });
          t.is(firstDifference(seen, wanted), undefined, `${where}: ${whose}, ${written} written`);
        }
        await client.close({ fd });
      }
    },
  );
}

for (const back of [false, true]) {
  guestTest(
    `a new file is as long as what a write ${back ? 'into' : 'through'} the cache says it has written of such a buffer`,
    async (t, guest) => {
      await using fuse = await (back
        ? mountWritebackCache(guest)
        : guest.mountFuse({ passthrough: 'off', openFlags: 0 }));
      await using client = await guest.client();
      const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR|O_CREAT' });
      const written = await writePart(guest, client, fd);
      const size = typeof written === 'number' ? written : 0;
      t.is((await client.fstat({ fd })).size, size, `the size that is told, ${written} written`);
      await client.fsync({ fd });
      await client.close({ fd });
      const stored = await client.readFile({ path: fuse.backing('f') });
      t.is(stored.length, size, `the size that the server has, ${written} written`);
      const wanted = pattern(PAGE, 9).subarray(PAGE - THERE);
      t.is(firstDifference(stored, wanted.subarray(0, stored.length)), undefined);
    },
  );
}
