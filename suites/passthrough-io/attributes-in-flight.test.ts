import { bytes, pattern } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import { guestTest } from '../lib/guest-test.ts';
import { Witness } from '../lib/witness.ts';

/** What FUSE knows of a file while an answer is on its way, and after a write that came to nothing. */

/** Where `size` stands in the answer to GETATTR: behind validity (16 bytes) and the inode number. */
const ATTR_SIZE_AT = 24;
const BEYOND = 9000;

type Write = (client: Client, fd: number) => Promise<unknown>;

/** Every way to write three bytes beyond the end. */
const WRITES: Readonly<Record<string, Write>> = {
  write: (client, fd) => client.errno.pwrite({ fd, data: 'new', offset: BEYOND }),
  writev: (client, fd) => client.errno.pwritev2({ fd, chunks: [pattern(1), pattern(2)], offset: BEYOND }),
  'asynchronous write': (client, fd) =>
    client.aio({ operations: [{ op: 'pwrite', fd, data: bytes('new'), offset: BEYOND }] }),
  splice: async (client, fd) => {
    const [fdIn, end] = await client.pipe({});
    await client.write({ fd: end, data: 'new' });
    await client.errno.splice({ fdIn, fdOut: fd, offOut: BEYOND, length: 3 });
    for (const each of [fdIn, end]) await client.close({ fd: each });
  },
};

guestTest(
  'attributes that are older than a write do not make the file short again (A41)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse({ attrValidS: 3600 });
    await using client = await guest.client();
    await using other = await guest.client();
    const old = new Uint8Array(8);
    old[0] = 5;
    for (const [what, write] of Object.entries(WRITES)) {
      await client.writeFile({ path: fuse.backing(what), data: 'short' });
      const fd = await client.open({ path: fuse.file(what), flags: 'O_RDWR' });
      const hold = await fuse.hold({ opcode: 'GETATTR', path: `/${what}` });
      const asking = other.stat({ path: fuse.file(what), flags: 'AT_STATX_FORCE_SYNC' });
      asking.catch(() => undefined);
      const request = await hold.arrived();
      await write(client, fd);
      await hold.stop();
      await hold.release(request, { do: 'patch', at: ATTR_SIZE_AT, bytes: old });
      await asking;
      const { size } = await client.fstat({ fd, flags: 'AT_STATX_DONT_SYNC' });
      t.is(size, BEYOND + 3, `${what}: the answer was asked for before it`);
      await client.close({ fd });
    }
    t.deepEqual(await fuse.dataRequests(), []);
  },
);

guestTest(
  'a write that fails leaves the size as it was, whichever way was written (A39, A41)',
  async (t, guest) => {
    await using witness = await Witness.mount(guest, { io: 'cached', upper: { attrValidS: 3600 } });
    await using client = await guest.client();
    const { lower, upper } = witness;
    for (const [what, write] of Object.entries(WRITES)) {
      await client.writeFile({ path: upper.backing(what), data: 'short' });
      const fd = await client.open({ path: upper.file(what), flags: 'O_RDWR' });
      await client.fstat({ fd });
      const takeBack = await lower.fail('WRITE', 'ENOSPC');
      await write(client, fd);
      await takeBack();
      const { size } = await client.fstat({ fd, flags: 'AT_STATX_DONT_SYNC' });
      t.is(size, 5, `${what}: as the kernel has it`);
      t.is((await client.fstat({ fd })).size, 5, `${what}: as the server says`);
      await write(client, fd);
      t.is(
        (await client.fstat({ fd, flags: 'AT_STATX_DONT_SYNC' })).size,
        BEYOND + 3,
        `${what}: one that works`,
      );
      await client.close({ fd });
    }
    t.deepEqual(await upper.dataRequests(), []);
  },
);

guestTest(
  'statx asks the server when it is told to, and not when it is told not to (A41)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse({ attrValidS: 3600 });
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'short' });
    const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
    const asked = async (flags: string) => {
      const after = await fuse.position();
      await client.fstat({ fd, flags });
      return (await fuse.requests({ opcode: 'GETATTR', after })).length;
    };
    t.is(await asked('AT_STATX_FORCE_SYNC'), 1, 'told to');
    t.is(await asked(''), 0, 'by itself: what it knows is good for an hour');
    t.is(await asked('AT_STATX_FORCE_SYNC'), 1, 'told to, though it knows');
    await client.pwrite({ fd, data: 'x', offset: 0 });
    t.is(await asked('AT_STATX_DONT_SYNC'), 0, 'told not to, though it is outdated');
    t.is(await asked(''), 1, 'by itself, after a write');
    await client.close({ fd });
  },
);
