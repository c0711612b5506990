import { pattern } from '../lib/bytes.ts';
import { guestTest } from '../lib/guest-test.ts';

/** What the page cache takes for the end of a file, and what it does there. */

const PAGE = 4096;
/** Longer than any test. Seconds. */
const LONG = 100_000;
/** With AUTO_INVAL_DATA every read asks. */
const INIT = { dropFlags: ['AUTO_INVAL_DATA'] } as const;

guestTest(
  'a cached read asks for the size where it reaches beyond the end, and not where it ends there',
  async (t, guest) => {
    // Attributes do not count for any time.
    await using fuse = await guest.mountFuse({ passthrough: 'off', init: INIT });
    await using client = await guest.client();
    const size = PAGE + 100;
    await client.writeFile({ path: fuse.backing('f'), data: pattern(size) });
    const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDONLY' });
    for (const [offset, count, asks] of [
      [0, size, false],
      [size - 1, 1, false],
      [0, size + 1, true],
      [size, 1, true],
    ] as const) {
      const after = await fuse.position();
      const seen = await client.pread({ fd, count, offset });
      t.is(seen.length, Math.min(count, size - offset));
      const asked = await fuse.opcodes({ opcode: ['GETATTR', 'STATX'], after });
      t.is(
        asked.length > 0,
        asks,
        `${count} bytes at ${offset} of ${size}: the server is asked for the size`,
      );
    }
    await client.close({ fd });
  },
);

guestTest(
  'attributes that are older than a short answer to a read do not bring the old size back (A41)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse({ passthrough: 'off', attrValidS: LONG, init: INIT });
    await using client = await guest.client();
    await using other = await guest.client();
    // Ahead with others, and by itself.
    for (const advice of ['POSIX_FADV_NORMAL', 'POSIX_FADV_RANDOM']) {
      await client.writeFile({ path: fuse.backing(advice), data: pattern(2 * PAGE) });
      const fd = await client.open({ path: fuse.file(advice), flags: 'O_RDONLY' });
      await client.posix_fadvise({ fd, offset: 0, length: 0, advice });
      const seen = await other.open({ path: fuse.file(advice), flags: 'O_RDONLY' });
      const hold = await fuse.hold({ opcode: 'GETATTR', path: `/${advice}` });
      const asking = other.fstat({ fd: seen, flags: 'AT_STATX_FORCE_SYNC' });
      asking.catch(() => undefined);
      const request = await hold.arrived();
      const body = pattern(100);
      await fuse.rule({ match: { opcode: 'READ' }, times: 1, action: { do: 'body', body } });
      await client.pread({ fd, count: 10, offset: 0 });
      const known = async (): Promise<number> =>
        (await client.fstat({ fd, flags: 'AT_STATX_DONT_SYNC' })).size;
      t.is(await known(), 100, `${advice}: the file ends where the answer did`);
      await hold.stop();
      await hold.release(request);
      t.is((await asking).size, 2 * PAGE, `${advice}: who has asked is told the answer`);
      t.is(await known(), 100, `${advice}: what the kernel knows, which was asked for before`);
      await other.close({ fd: seen });
      await client.close({ fd });
    }
  },
);
