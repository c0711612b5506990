import type { Client } from '../lib/client.ts';
import { guestTest } from '../lib/guest-test.ts';
import { needsMappings } from '../lib/registration.ts';

/** After every way of reading the kernel asks the server again, because the backing file has a new access time. */

interface Way {
  readonly what: string;
  readonly mapped?: boolean;
  readonly read: (client: Client, fd: number) => Promise<unknown>;
}

const WAYS: readonly Way[] = [
  {
    what: 'splice',
    read: async (client, fdIn) => {
      const [end, fdOut] = await client.pipe({});
      await client.splice({ fdIn, offIn: 0, fdOut, length: 1 });
      await client.close({ fd: end });
      await client.close({ fd: fdOut });
    },
  },
  {
    what: 'mmap',
    mapped: true,
    read: async (client, fd) => {
      const map = await client.mmap({ fd, length: 4096, prot: 'PROT_READ', flags: 'MAP_SHARED' });
      await client.munmap({ map });
    },
  },
  { what: 'preadv2', read: (client, fd) => client.preadv2({ fd, counts: [1], offset: 0 }) },
  {
    what: 'an asynchronous read',
    read: (client, fd) => client.aio({ operations: [{ op: 'pread', fd, count: 1, offset: 0 }] }),
  },
];

for (const { what, mapped = false, read } of WAYS) {
  guestTest(`after ${what} the access time is that of the backing file (A40)`, async (t, guest) => {
    if (mapped) needsMappings(guest);
    if (!guest.expected.readMakesAtimeStale) guest.skip('this generation keeps the access time it knows');
    await using fuse = await guest.mountFuse({ attrValidS: 3600 });
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'x' });
    const old = 1_000_000_000;
    await client.utimens({ path: fuse.backing('f'), atimeNs: old, mtimeNs: null });
    const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDONLY' });
    t.is((await client.fstat({ fd })).atimeNs, old, 'before');

    await read(client, fd);
    const native = await client.stat({ path: fuse.backing('f') });
    t.not(native.atimeNs, old, `${what} changes the access time of the backing file`);
    t.is((await client.fstat({ fd })).atimeNs, native.atimeNs, `FUSE asks again after ${what}`);
    await client.close({ fd });
    t.deepEqual(await fuse.dataRequests(), []);
  });
}
