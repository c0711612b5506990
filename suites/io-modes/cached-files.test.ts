import { firstDifference, pattern, text } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import type { FuseMount, FuseOptions } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';

/** Files in the page cache of FUSE without passthrough: how they are read ahead, mapped, cut and made hollow. */

const PAGE = 4096;
const SIZE = 16 * PAGE;
/** Longer than any test. Seconds. */
const LONG = 100_000;

/** A file of 16 pages whose attributes are believed, of which nothing is in the cache. */
async function cachedFile(
  guest: TestGuest,
  client: Client,
  init: NonNullable<FuseOptions['init']> = {},
): Promise<{ fuse: FuseMount; fd: number }> {
  const fuse = await guest.mountFuse({
    passthrough: 'off',
    attrValidS: LONG,
    init: { dropFlags: ['AUTO_INVAL_DATA'], ...init },
  });
  await client.writeFile({ path: fuse.backing('f'), data: pattern(SIZE) });
  return { fuse, fd: await client.open({ path: fuse.file('f'), flags: 'O_RDWR' }) };
}

guestTest('no cached READ has more pages than max_pages', async (t, guest) => {
  await using client = await guest.client();
  for (const maxPages of [1, 3]) {
    const { fuse, fd } = await cachedFile(guest, client, { maxPages, addFlags: ['MAX_PAGES'] });
    await using _fuse = fuse;
    const seen = await client.pread({ fd, count: SIZE, offset: 0 });
    t.is(firstDifference(seen, pattern(SIZE)), undefined, `max_pages ${maxPages}: the data`);
    const sizes = (await fuse.requests('READ')).map(({ args }) => Number(args['size']));
    t.is(Math.max(...sizes), maxPages * PAGE, `max_pages ${maxPages}: the longest READ`);
    await client.close({ fd });
  }
});

const WRITEBACK = {
  addFlags: ['WRITEBACK_CACHE'],
  dropFlags: ['PASSTHROUGH', 'PASSTHROUGH_FD', 'AUTO_INVAL_DATA'],
} as const;

interface Fills {
  readonly init?: NonNullable<FuseOptions['init']>;
  /** After it the whole file is in the cache, and nothing of it waits to be written. */
  readonly fill: (client: Client, at: { fuse: FuseMount; fd: number }) => Promise<unknown>;
}

const read = (client: Client, fd: number): Promise<unknown> => client.pread({ fd, count: SIZE, offset: 0 });

/** Every way for pages to come into the cache, or to be used there. */
const FILLED: Readonly<Record<string, Fills>> = {
  'a read': { fill: (client, { fd }) => read(client, fd) },
  'a write': { fill: (client, { fd }) => client.pwrite({ fd, data: pattern(SIZE, 5), offset: 0 }) },
  'a write to parts of pages': {
    fill: async (client, { fd }) => {
      await read(client, fd);
      await client.pwrite({ fd, data: pattern(2 * PAGE), offset: 100 });
    },
  },
  'a write that comes back later': {
    init: WRITEBACK,
    fill: async (client, { fd }) => {
      await client.pwrite({ fd, data: pattern(SIZE - 200, 5), offset: 100 });
      await read(client, fd);
      await client.fsync({ fd });
    },
  },
  'a store into a mapping': {
    fill: async (client, { fd }) => {
      const map = await client.mmap({ fd, length: SIZE, prot: 'PROT_READ|PROT_WRITE', flags: 'MAP_SHARED' });
      await read(client, fd);
      await client.mwrite({ map, offset: 0, data: pattern(SIZE, 5) });
      await client.msync({ map, offset: 0, length: SIZE, flags: 'MS_SYNC' });
      await client.munmap({ map });
    },
  },
  STORE: {
    fill: (_client, { fuse }) => fuse.notify({ store: '/f', offset: 0, data: pattern(SIZE, 5) }),
  },
};

guestTest(
  'pages that are not in use any more leave the cache when they are not wanted, however they came there',
  async (t, guest) => {
    await using client = await guest.client();
    for (const [what, { init, fill }] of Object.entries(FILLED)) {
      const { fuse, fd } = await cachedFile(guest, client, init);
      await using _fuse = fuse;
      await fill(client, { fuse, fd });
      const map = await client.mmap({ fd, length: SIZE, prot: 'PROT_READ', flags: 'MAP_SHARED' });
      const resident = async (): Promise<number> =>
        (await client.mincore({ map })).reduce((sum, page) => sum + (page & 1), 0);
      t.is(await resident(), SIZE / PAGE, `${what}: pages in the cache`);
      await client.posix_fadvise({ fd, offset: 0, length: 0, advice: 'POSIX_FADV_DONTNEED' });
      t.is(await resident(), 0, `${what}: pages that somebody still holds`);
      await client.munmap({ map });
      await client.close({ fd });
    }
  },
);

guestTest('a page that is loaded by itself leaves the size that is known', async (t, guest) => {
  await using client = await guest.client();
  const { fuse, fd } = await cachedFile(guest, client);
  await using _fuse = fuse;
  const map = await client.mmap({ fd, length: SIZE, prot: 'PROT_READ', flags: 'MAP_SHARED' });
  // Else it would read ahead.
  await client.madvise({ map, advice: 'MADV_RANDOM' });
  for (const page of [0, 3]) {
    const seen = await client.mread({ map, offset: page * PAGE, length: PAGE });
    t.is(firstDifference(seen, pattern(SIZE).subarray(page * PAGE, (page + 1) * PAGE)), undefined);
    const { size } = await client.fstat({ fd, flags: 'AT_STATX_DONT_SYNC' });
    t.is(size, SIZE, `after an answer of all of page ${page}`);
  }
  await client.munmap({ map });
  await client.close({ fd });
});

/** Ways to have a page read: among those that are read ahead, and by itself. */
const READING: Readonly<Record<string, (client: Client, fd: number) => Promise<unknown>>> = {
  'a read': async (client, fd) => {
    // Of the pages that the write is about none is read ahead.
    await client.posix_fadvise({ fd, offset: 0, length: 0, advice: 'POSIX_FADV_RANDOM' });
    await client.pread({ fd, count: PAGE, offset: 0 });
  },
  'a load': async (client, fd) => {
    const map = await client.mmap({ fd, length: PAGE, prot: 'PROT_READ', flags: 'MAP_SHARED' });
    await client.madvise({ map, advice: 'MADV_RANDOM' });
    await client.mread({ map, offset: 0, length: 10 });
    await client.munmap({ map });
  },
};

guestTest('a short answer to a READ from before a write does not cut the file', async (t, guest) => {
  await using client = await guest.client();
  await using reader = await guest.client();
  for (const [what, read] of Object.entries(READING)) {
    const { fuse, fd } = await cachedFile(guest, client);
    await using _fuse = fuse;
    const seen = await reader.open({ path: fuse.file('f'), flags: 'O_RDONLY' });
    const hold = await fuse.hold('READ');
    const reading = read(reader, seen);
    reading.catch(() => undefined);
    const held = await hold.arrived();
    // A whole page: nothing has to be read for it.
    await client.pwrite({ fd, data: pattern(PAGE, 5), offset: SIZE });
    await hold.stop();
    await hold.release(held, { do: 'body', body: pattern(100) });
    await reading;
    const { size } = await client.fstat({ fd, flags: 'AT_STATX_DONT_SYNC' });
    t.is(size, SIZE + PAGE, `${what}: the size that the kernel knows is that of the write`);
    await reader.close({ fd: seen });
    await client.close({ fd });
  }
});

guestTest(
  'a mapping that may be written only later brings what is stored to the server, too',
  async (t, guest) => {
    await using client = await guest.client();
    const { fuse, fd } = await cachedFile(guest, client);
    await using _fuse = fuse;
    const map = await client.mmap({ fd, length: PAGE, prot: 'PROT_READ', flags: 'MAP_SHARED' });
    await client.close({ fd });
    await client.mprotect({ map, prot: 'PROT_READ|PROT_WRITE' });
    await client.mwrite({ map, offset: 0, data: 'STORED' });
    t.is(await client.errno.msync({ map, flags: 'MS_SYNC' }), 'ok');
    const stored = await client.readFile({ path: fuse.backing('f') });
    t.is(text(stored.subarray(0, 6)), 'STORED');
    await client.munmap({ map });
  },
);

guestTest('a hole takes out of the cache what lies in it, and no byte more', async (t, guest) => {
  await using client = await guest.client();
  const { fuse, fd } = await cachedFile(guest, client);
  await using _fuse = fuse;
  const data = new Uint8Array(SIZE).fill(7);
  await client.pwrite({ fd, data, offset: 0 });
  await client.pread({ fd, count: SIZE, offset: 0 });
  for (const [mode, offset, length] of [
    ['FALLOC_FL_PUNCH_HOLE|FALLOC_FL_KEEP_SIZE', 1000, 2000],
    ['FALLOC_FL_PUNCH_HOLE|FALLOC_FL_KEEP_SIZE', 2 * PAGE, 2 * PAGE],
    ['FALLOC_FL_ZERO_RANGE|FALLOC_FL_KEEP_SIZE', 6 * PAGE + 50, PAGE],
  ] as const) {
    await client.fallocate({ fd, mode, offset, length });
    data.fill(0, offset, offset + length);
    const seen = await client.pread({ fd, count: SIZE, offset: 0 });
    t.is(firstDifference(seen, data), undefined, `${mode} of ${length} bytes at ${offset}`);
  }
  const stored = await client.readFile({ path: fuse.backing('f') });
  t.is(firstDifference(stored, data), undefined, 'what the server has');
  await client.close({ fd });
});
