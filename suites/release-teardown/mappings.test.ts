import { bytes, text } from '../lib/bytes.ts';
import { guestTest } from '../lib/guest-test.ts';
import { needsMappings } from '../lib/registration.ts';

const SHARED = { length: 4096, prot: 'PROT_READ|PROT_WRITE', flags: 'MAP_SHARED' };

guestTest(
  'a mapping outlives close: RELEASE comes, the backing file stays until munmap (C6, C11)',
  async (t, guest) => {
    needsMappings(guest);
    await using fuse = await guest.mountFuse();
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'backing' });
    const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
    const map = await client.mmap({ fd, ...SHARED });
    await client.close({ fd });
    await fuse.waitFor('RELEASE');

    t.deepEqual((await fuse.state()).backingIds, [], 'the server has closed its id');
    t.is(text(await client.mread({ map, offset: 0, length: 7 })), 'backing');
    await client.mwrite({ map, offset: 0, data: bytes('written') });
    t.is(text(await client.readFile({ path: fuse.backing('f') })), 'written');
    t.is(await guest.umountBacking(), 'EBUSY', 'while it is mapped');
    await client.munmap({ map });
    t.false(await guest.isBackingBusy(), 'after munmap');
    t.is((await fuse.requests('RELEASE')).length, 1);
    t.deepEqual(await fuse.dataRequests(), []);
  },
);

guestTest('a private mapping outlives close as well and changes nothing (A15, C6)', async (t, guest) => {
  needsMappings(guest);
  await using fuse = await guest.mountFuse();
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'backing' });
  const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDONLY' });
  const map = await client.mmap({ fd, ...SHARED, flags: 'MAP_PRIVATE' });
  await client.close({ fd });
  await fuse.waitFor('RELEASE');

  await client.mwrite({ map, offset: 0, data: bytes('private') });
  t.is(text(await client.mread({ map, offset: 0, length: 7 })), 'private');
  t.is(text(await client.readFile({ path: fuse.backing('f') })), 'backing');
  t.is(await guest.umountBacking(), 'EBUSY');
  await client.munmap({ map });
  t.false(await guest.isBackingBusy());
});

guestTest('the mapping of a killed process lets the backing file go (C6, C18)', async (t, guest) => {
  needsMappings(guest);
  await using fuse = await guest.mountFuse();
  await using client = await guest.client();
  await using victim = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'backing' });
  const fd = await victim.open({ path: fuse.file('f'), flags: 'O_RDWR' });
  const map = await victim.mmap({ fd, ...SHARED });
  await victim.close({ fd });
  await fuse.waitFor('RELEASE');
  await victim.mwrite({ map, offset: 0, data: bytes('written') });
  t.is(await guest.umountBacking(), 'EBUSY');

  await victim.kill();
  t.is(text(await client.readFile({ path: fuse.backing('f') })), 'written', 'what was stored is there');
  t.false(await guest.isBackingBusy());
});

guestTest('a mapping goes on after RELEASE, BACKING_CLOSE and unlink (C6, C8)', async (t, guest) => {
  needsMappings(guest);
  await using fuse = await guest.mountFuse();
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'backing' });
  const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
  const map = await client.mmap({ fd, ...SHARED });
  await client.close({ fd });
  await fuse.waitFor('RELEASE');
  await client.unlink({ path: fuse.file('f') });

  t.is(await client.errno.stat({ path: fuse.backing('f') }), 'ENOENT');
  await client.mwrite({ map, offset: 0, data: bytes('written') });
  t.is(text(await client.mread({ map, offset: 0, length: 7 })), 'written');
  t.is(await guest.umountBacking(), 'EBUSY');
  await client.munmap({ map });
  t.false(await guest.isBackingBusy());
});

guestTest(
  'a mapping does not keep the inode in passthrough mode: a plain open is fine then (C7)',
  async (t, guest) => {
    needsMappings(guest);
    await using fuse = await guest.mountFuse();
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'backing' });
    const passthrough = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
    const map = await client.mmap({ fd: passthrough, ...SHARED });
    await fuse.configure({ passthrough: 'off' });
    const { cachedBesidePassthrough } = guest.expected;
    t.is(
      await client.errno.open({ path: fuse.file('f'), flags: 'O_RDWR' }),
      cachedBesidePassthrough,
      'while open',
    );
    await client.close({ fd: passthrough });

    const plain = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
    t.is(text(await client.pread({ fd: plain, count: 7, offset: 0 })), 'backing');
    t.deepEqual(await fuse.opcodes('READ'), ['READ'], 'through the server now');
    await client.mwrite({ map, offset: 0, data: bytes('written') });
    t.is(
      text(await client.readFile({ path: fuse.backing('f') })),
      'written',
      'stores still reach the backing file',
    );
    await client.munmap({ map });
    await client.close({ fd: plain });
  },
);

guestTest('a mapping survives an aborted connection, page faults included (H3, H14)', async (t, guest) => {
  needsMappings(guest);
  await using fuse = await guest.mountFuse();
  await using client = await guest.client();
  const page = 4096;
  await client.writeFile({ path: fuse.backing('f'), data: new Uint8Array(4 * page).fill(0x61) });
  const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
  const map = await client.mmap({ fd, ...SHARED, length: 4 * page });
  t.is(text(await client.mread({ map, offset: 0, length: 1 })), 'a');
  await fuse.abort();

  t.is(text(await client.mread({ map, offset: 3 * page, length: 1 })), 'a', 'a page not touched before');
  await client.mwrite({ map, offset: 2 * page, data: bytes('stored') });
  const back = await client.readFile({ path: fuse.backing('f') });
  t.is(text(back.slice(2 * page, 2 * page + 6)), 'stored');
  t.is(await client.errno.stat({ path: fuse.path }), 'ENOTCONN', 'the connection is dead');
  await client.munmap({ map });
});
