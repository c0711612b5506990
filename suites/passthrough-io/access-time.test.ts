import { pattern } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import { guestTest } from '../lib/guest-test.ts';

const PAGE = 4096;
const LONG_AGO_NS = 1_000_000_000;

/** Every way to read that passes the server by. */
const READS: Readonly<Record<string, (client: Client, fd: number) => Promise<unknown>>> = {
  read: (client, fd) => client.read({ fd, count: 10 }),
  pread: (client, fd) => client.pread({ fd, count: 10, offset: 5 }),
  'a read at the end': (client, fd) => client.pread({ fd, count: 10, offset: PAGE }),
  readv: (client, fd) => client.readv({ fd, counts: [5, 5] }),
  preadv2: (client, fd) => client.preadv2({ fd, counts: [10], offset: 0 }),
  aio: (client, fd) => client.aio({ operations: [{ op: 'pread', fd, count: 10, offset: 0 }] }),
  splice: async (client, fdIn) => {
    const [end, fdOut] = await client.pipe({});
    await client.splice({ fdIn, offIn: 0, fdOut, length: 10 });
    for (const fd of [end, fdOut]) await client.close({ fd });
  },
  'a splice at the end': async (client, fdIn) => {
    const [end, fdOut] = await client.pipe({});
    await client.splice({ fdIn, offIn: PAGE, fdOut, length: 10 });
    for (const fd of [end, fdOut]) await client.close({ fd });
  },
  sendfile: async (client, fdIn) => {
    const [end, fdOut] = await client.pipe({});
    await client.sendfile({ fdOut, fdIn, offset: 0, count: 10 });
    for (const fd of [end, fdOut]) await client.close({ fd });
  },
  mmap: async (client, fd) => {
    const map = await client.mmap({ fd, length: PAGE, prot: 'PROT_READ', flags: 'MAP_SHARED' });
    await client.mread({ map, offset: 0, length: 10 });
    await client.munmap({ map });
  },
};

guestTest('every way of reading makes the access time be asked for again (A40)', async (t, guest) => {
  guest.needs(guest.expected.readMakesAtimeStale, 'word from a passthrough read to the attributes');
  await using fuse = await guest.mountFuse({ attrValidS: 3600 });
  await using client = await guest.client();
  for (const [name, read] of Object.entries(READS)) {
    await client.writeFile({ path: fuse.backing(name), data: pattern(PAGE) });
    // Older than the last change: relatime has to touch it.
    await client.utimens({ path: fuse.backing(name), atimeNs: LONG_AGO_NS, mtimeNs: null });
    const fd = await client.open({ path: fuse.file(name), flags: 'O_RDONLY' });
    t.is((await client.fstat({ fd })).atimeNs, LONG_AGO_NS);
    const after = await fuse.position();
    await client.fstat({ fd });
    t.deepEqual(await fuse.requests({ opcode: 'GETATTR', after }), [], `${name}: believed for an hour`);
    await read(client, fd);
    await client.lseek({ fd, offset: 0, whence: 'SEEK_END' });
    t.deepEqual(await fuse.requests({ opcode: 'GETATTR', after }), [], `${name} says nothing of the size`);
    const { atimeNs } = await client.fstat({ fd });
    t.is(atimeNs, (await client.stat({ path: fuse.backing(name) })).atimeNs, `after ${name}`);
    t.is((await fuse.requests({ opcode: 'GETATTR', after })).length, 1, `asked once after ${name}`);
    await client.close({ fd });
  }
  t.deepEqual(await fuse.dataRequests(), []);
});

guestTest(
  'O_NOATIME and a noatime open leave the access time of the backing file alone (A40)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse();
    await using client = await guest.client();
    const outcome: Record<string, boolean> = {};
    for (const flags of ['O_RDONLY', 'O_RDONLY|O_NOATIME']) {
      const name = flags.replace('|', '-');
      await client.writeFile({ path: fuse.backing(name), data: pattern(10) });
      await client.utimens({ path: fuse.backing(name), atimeNs: LONG_AGO_NS, mtimeNs: null });
      const fd = await client.open({ path: fuse.file(name), flags });
      await client.pread({ fd, count: 10, offset: 0 });
      await client.close({ fd });
      outcome[flags] = (await client.stat({ path: fuse.backing(name) })).atimeNs === LONG_AGO_NS;
    }
    const kept = guest.expected.reopensBackingFile;
    t.deepEqual(
      outcome,
      { O_RDONLY: false, 'O_RDONLY|O_NOATIME': kept },
      'flags are of the open where it opens anew',
    );
    t.deepEqual(await fuse.dataRequests(), []);
  },
);

guestTest(
  'a store in a mapping changes the times of the backing file, and FUSE tells them (A16)',
  async (t, guest) => {
    guest.needs(guest.expected.mapsBackingFile, 'mmap in passthrough mode: it maps the cache of FUSE');
    await using fuse = await guest.mountFuse();
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: pattern(2 * PAGE) });
    await client.utimens({ path: fuse.backing('f'), atimeNs: LONG_AGO_NS, mtimeNs: LONG_AGO_NS });
    const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
    const map = await client.mmap({
      fd,
      length: 2 * PAGE,
      prot: 'PROT_READ|PROT_WRITE',
      flags: 'MAP_SHARED',
    });
    t.is((await client.fstat({ fd })).mtimeNs, LONG_AGO_NS, 'the mapping by itself changes nothing');
    await client.mwrite({ map, offset: PAGE, data: 'stored' });
    await client.msync({ map, flags: 'MS_SYNC' });
    const [seen, native] = [await client.fstat({ fd }), await client.stat({ path: fuse.backing('f') })];
    t.true(native.mtimeNs > LONG_AGO_NS);
    t.is(seen.mtimeNs, native.mtimeNs);
    t.is(seen.ctimeNs, native.ctimeNs);
    t.is(seen.size, 2 * PAGE);
    await client.munmap({ map });
    await client.close({ fd });
    t.deepEqual(await fuse.dataRequests(), []);
  },
);

/** Ways to read what the page cache of FUSE has, or a directory. */
const CACHED_READS: Readonly<Record<string, (client: Client, fd: number) => Promise<unknown>>> = {
  'a read of f': (client, fd) => client.pread({ fd, count: 10, offset: 0 }),
  'a mapping of f': READS['mmap'] ?? (() => Promise.reject(new Error('no such way to read'))),
  'a list of d': (client, fd) => client.readdirFd({ fd }),
};

guestTest(
  'without passthrough: reading does not change the access time that the kernel has of the server (A40)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse({ passthrough: 'off', attrValidS: 3600, entryValidS: 3600 });
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: pattern(PAGE) });
    await client.mkdir({ path: fuse.backing('d') });
    // Older than the last change: relatime would touch it.
    for (const name of ['f', 'd']) {
      await client.utimens({ path: fuse.backing(name), atimeNs: LONG_AGO_NS, mtimeNs: null });
    }
    for (const [what, read] of Object.entries(CACHED_READS)) {
      const fd = await client.open({ path: fuse.file(what.slice(-1)), flags: 'O_RDONLY' });
      const known = async (): Promise<number> =>
        (await client.fstat({ fd, flags: 'AT_STATX_DONT_SYNC' })).atimeNs;
      t.is(await known(), LONG_AGO_NS, `before ${what}`);
      await read(client, fd);
      t.is(await known(), LONG_AGO_NS, `after ${what}`);
      await client.close({ fd });
    }
    t.deepEqual(await fuse.requests('SETATTR'), [], 'and the server is told no time');
  },
);
