import { bytes, pattern } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import { ATTR, ATTR_OUT, u64 } from '../lib/entry-answer.ts';
import { eventually } from '../lib/eventually.ts';
import { guestTest } from '../lib/guest-test.ts';
import { needsSingleUseIds } from '../lib/registration.ts';

/** The 2021 series writes without the lock of the FUSE file, and takes it only to say how long the file is then. */

const BEYOND = 9000;
const LONGER = 20_000;
const PAGE = 4096;

/** Ways to write three bytes behind the end that wait until the write has come to its end. */
const WRITES: Readonly<Record<string, (client: Client, fd: number) => Promise<unknown>>> = {
  write: (client, fd) => client.pwrite({ fd, data: 'new', offset: BEYOND }),
  'asynchronous write': (client, fd) =>
    client.aio({ operations: [{ op: 'pwrite', fd, data: bytes('new'), offset: BEYOND }] }),
  splice: async (client, fd) => {
    const [fdIn, end] = await client.pipe({});
    await client.write({ fd: end, data: 'new' });
    return client.splice({ fdIn, fdOut: fd, offOut: BEYOND, length: 3 });
  },
};

guestTest(
  'a write beside a truncation says how long the file is after the truncation has (A29, A41)',
  async (t, guest) => {
    needsSingleUseIds(guest);
    await using fuse = await guest.mountFuse({ attrValidS: 3600 });
    for (const [what, write] of Object.entries(WRITES)) {
      await using client = await guest.client();
      await using other = await guest.client();
      await client.writeFile({ path: fuse.backing(what), data: 'short' });
      const fd = await client.open({ path: fuse.file(what), flags: 'O_RDWR' });
      const truncated = await other.open({ path: fuse.file(what), flags: 'O_RDWR' });
      const hold = await fuse.hold('SETATTR');
      const truncating = other.ftruncate({ fd: truncated, length: LONGER });
      truncating.catch(() => undefined);
      const request = await hold.arrived();
      const writing = write(client, fd);
      writing.catch(() => undefined);
      const where = await eventually(
        () => guest.where(client.pid),
        (seen) => seen.includes('fuse_passthrough_wrote'),
      );
      t.regex(where, /fuse_passthrough_wrote/, `${what}: waits when the data are written`);
      const { size } = await client.stat({ path: fuse.backing(what) });
      t.is(size, BEYOND + 3, `${what}: below`);
      await hold.stop();
      // An answer with a size from before the write.
      const at = ATTR_OUT.attr + ATTR.size;
      await hold.release(request, { do: 'patch', at, bytes: u64(5n) });
      await truncating;
      await writing;
      const known = await client.fstat({ fd, flags: 'AT_STATX_DONT_SYNC' });
      t.is(known.size, LONGER, `${what}: the size of the file below is what counts`);
    }
    t.deepEqual(await fuse.dataRequests(), []);
  },
);

guestTest(
  'a queued write completes though a truncation of the file waits for the server (A25, A29)',
  async (t, guest) => {
    needsSingleUseIds(guest);
    await using disk = await guest.spareDisk('ext4', { mapped: true });
    await using fuse = await guest.mountFuse({ root: await disk.directory() });
    await using client = await guest.client();
    await using other = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: pattern(4 * PAGE) });
    const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR|O_DIRECT' });
    const truncated = await other.open({ path: fuse.file('f'), flags: 'O_RDWR' });
    const native = await client.open({ path: fuse.backing('f'), flags: 'O_RDONLY' });
    // Blocks that are allocated and written: only then are the writes really queued.
    await client.fsync({ fd: native });
    const hold = await fuse.hold('SETATTR');
    const truncating = other.ftruncate({ fd: truncated, length: 2 * PAGE });
    truncating.catch(() => undefined);
    const request = await hold.arrived();

    // On a disk that does nothing for now, lest the write is done before it could be queued.
    await disk.suspend();
    const operation = { op: 'pwrite', fd, data: pattern(PAGE, 2), offset: PAGE } as const;
    const writing = client.aio({ operations: [operation] });
    writing.catch(() => undefined);
    try {
      const where = await eventually(
        () => guest.where(client.pid),
        (seen) => seen.includes('read_events'),
      );
      t.regex(where, /read_events/, 'it is submitted');
    } finally {
      await disk.resume();
    }
    t.is((await writing)[0]?.result, PAGE, 'it is done before the truncation');
    await hold.stop();
    await hold.release(request);
    await truncating;
    t.is((await client.stat({ path: fuse.backing('f') })).size, 2 * PAGE);
    for (const each of [fd, native]) await client.close({ fd: each });
    t.deepEqual(await fuse.dataRequests(), []);
  },
);
