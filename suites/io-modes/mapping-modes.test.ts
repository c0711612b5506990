import { pattern, text } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import { SyscallError } from '../lib/client.ts';
import type { FuseMount } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';
import { mountWithModes, openAs, register } from '../lib/open-modes.ts';

const PAGE = 4096;
const SHARED = { length: PAGE, prot: 'PROT_READ|PROT_WRITE', flags: 'MAP_SHARED' };
const PRIVATE = { length: PAGE, prot: 'PROT_READ', flags: 'MAP_PRIVATE' };

async function passthroughErrno(client: Client, fuse: FuseMount, id: number): Promise<string> {
  try {
    await client.close({ fd: await openAs(client, fuse, { name: 'f', mode: 'passthrough', id }) });
    return 'ok';
  } catch (error) {
    if (error instanceof SyscallError) return error.errno;
    throw error;
  }
}

guestTest('a mapping from a cached open keeps passthrough out until it is gone (D1)', async (t, guest) => {
  await using fuse = await mountWithModes(guest);
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: pattern(PAGE) });
  const id = await register(fuse, 'f');

  const fd = await openAs(client, fuse, { name: 'f', mode: 'cached' });
  const map = await client.mmap({ fd, ...SHARED });
  t.is(await passthroughErrno(client, fuse, id), 'EIO', 'open and mapped');
  await client.close({ fd });
  t.is(await passthroughErrno(client, fuse, id), 'EIO', 'mapped');
  await client.munmap({ map });
  t.is(await passthroughErrno(client, fuse, id), 'ok', 'neither');
});

guestTest('a direct open cannot be mapped while the file is in passthrough mode (D6)', async (t, guest) => {
  await using fuse = await mountWithModes(guest);
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: pattern(PAGE) });
  const id = await register(fuse, 'f');
  const direct = await openAs(client, fuse, { name: 'f', mode: 'direct' });
  const passthrough = await openAs(client, fuse, { name: 'f', mode: 'passthrough', id });

  t.is(await client.errno.mmap({ fd: direct, ...SHARED }), 'ENODEV');
  t.is(await client.errno.mmap({ fd: direct, ...PRIVATE }), 'ENODEV');
  t.is(await client.errno.mmap({ fd: passthrough, ...SHARED }), 'ok');
  for (const fd of [direct, passthrough]) await client.close({ fd });
});

guestTest(
  'a direct open that was mapped shared keeps passthrough out until it is closed (D7)',
  async (t, guest) => {
    const init = { addFlags: ['DIRECT_IO_ALLOW_MMAP'] } as const;
    await using fuse = await mountWithModes(guest, { init });
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: pattern(PAGE) });
    const id = await register(fuse, 'f');

    const fd = await openAs(client, fuse, { name: 'f', mode: 'direct' });
    const map = await client.mmap({ fd, ...SHARED });
    t.is(await passthroughErrno(client, fuse, id), 'EIO', 'open and mapped');
    await client.munmap({ map });
    t.is(await passthroughErrno(client, fuse, id), 'EIO', 'open, and was mapped');
    await client.close({ fd });
    t.is(await passthroughErrno(client, fuse, id), 'ok', 'closed');
  },
);

guestTest(
  'a direct open that was mapped private does not keep passthrough out while it is open (D7)',
  async (t, guest) => {
    const init = { addFlags: ['DIRECT_IO_ALLOW_MMAP'] } as const;
    await using fuse = await mountWithModes(guest, { init });
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: pattern(PAGE) });
    const id = await register(fuse, 'f');

    const fd = await openAs(client, fuse, { name: 'f', mode: 'direct' });
    const map = await client.mmap({ fd, ...PRIVATE });
    await client.munmap({ map });
    t.is(await passthroughErrno(client, fuse, id), 'ok', 'open, and was mapped private');
    await client.mmap({ fd, ...SHARED });
    t.is(await passthroughErrno(client, fuse, id), 'EIO', 'open and mapped shared');
    await client.close({ fd });
  },
);

guestTest(
  'passthrough with DIRECT_IO reads and writes at the server and maps the backing file (A18)',
  async (t, guest) => {
    await using fuse = await mountWithModes(guest);
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: '0123456789' });
    const id = await register(fuse, 'f');
    const fd = await openAs(client, fuse, { name: 'f', mode: 'passthrough-direct', id });

    t.is(text(await client.pread({ fd, count: 100, offset: 0 })), '0123456789');
    t.is(await client.pwrite({ fd, data: 'AB', offset: 0 }), 2);
    const seen = (await fuse.dataRequests()).map(({ opcode }) => opcode);
    t.deepEqual([...new Set(seen)], ['READ', 'WRITE']);
    const map = await client.mmap({ fd, ...SHARED });
    t.is(text(await client.mread({ map, offset: 0, length: 10 })), 'AB23456789');
    await client.mwrite({ map, offset: 8, data: 'YZ' });
    t.is(text(await client.readFile({ path: fuse.backing('f') })), 'AB234567YZ', 'at once, without msync');
    t.is((await fuse.dataRequests()).length, seen.length, 'the mapping sends nothing');
    t.is(text(await client.pread({ fd, count: 100, offset: 0 })), 'AB234567YZ', 'and the server reads it');
    await client.munmap({ map });
    await client.close({ fd });
  },
);
