import { bytes, concat, firstDifference, pattern } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import type { FuseMount } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';
import { whereItWaits } from '../lib/where-it-waits.ts';
import { beginWriteback, mountWritebackCache, pageOf } from '../lib/writeback-cache.ts';

/** Pages that wait in the writeback cache: where they go, by which handle, and who waits for them. */

const PAGE = 4096;
const GIB = 2 ** 30;
/** Longer than any test. Seconds. */
const LONG = 100_000;
/** In the stack of a thread: for its being written back, or for whoever has it locked and waits for that. */
const WAITS_FOR_A_PAGE = /fuse_wait_on_page_writeback|fuse_launder_folio|fuse_write_begin|folio_wait_bit/;

async function open(client: Client, fuse: FuseMount, data: Uint8Array): Promise<number> {
  await client.writeFile({ path: fuse.backing('f'), data });
  return client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
}

guestTest('pages beyond 4 GiB are written back to where they were written', async (t, guest) => {
  await using fuse = await mountWritebackCache(guest);
  await using client = await guest.client();
  const fd = await open(client, fuse, pageOf(1));
  const far = 4 * GIB;
  await client.pwrite({ fd, data: pageOf(2), offset: far });
  const map = await client.mmap({
    fd,
    length: PAGE,
    prot: 'PROT_READ|PROT_WRITE',
    flags: 'MAP_SHARED',
    offset: far,
  });
  await client.mwrite({ map, offset: 0, data: bytes('mapped') });
  await client.munmap({ map });
  await client.fsync({ fd });
  const offsets = (await fuse.requests('WRITE')).map(({ args }) => Number(args['offset']));
  t.deepEqual([...new Set(offsets)], [far], 'offsets of WRITE');
  const native = await client.open({ path: fuse.backing('f'), flags: 'O_RDONLY' });
  const wanted = concat(bytes('mapped'), pageOf(2).subarray(6));
  t.is(firstDifference(await client.pread({ fd: native, count: PAGE, offset: far }), wanted), undefined);
  const first = await client.pread({ fd: native, count: PAGE, offset: 0 });
  t.is(firstDifference(first, pageOf(1)), undefined, 'the first page of the file stays as it was');
  for (const each of [native, fd]) await client.close({ fd: each });
});

guestTest('a write behind the end within its page leaves what is in front of the end', async (t, guest) => {
  await using fuse = await mountWritebackCache(guest);
  await using client = await guest.client();
  const fd = await open(client, fuse, pattern(100));
  await client.pwrite({ fd, data: 'END', offset: 200 });
  const wanted = concat(pattern(100), new Uint8Array(100), bytes('END'));
  const seen = await client.pread({ fd, count: PAGE, offset: 0 });
  t.is(firstDifference(seen, wanted), undefined, 'what is read');
  await client.fsync({ fd });
  const stored = await client.readFile({ path: fuse.backing('f') });
  t.is(firstDifference(stored, wanted), undefined, 'what the server has');
  await client.close({ fd });
});

guestTest(
  'pages are written back by a handle that may write, though a later open is mapped that may not',
  async (t, guest) => {
    await using fuse = await mountWritebackCache(guest);
    await using client = await guest.client();
    const fd = await open(client, fuse, pattern(PAGE));
    const { reply } = await fuse.waitFor('OPEN');
    const reader = await client.open({ path: fuse.file('f'), flags: 'O_RDONLY' });
    const maps: number[] = [];
    for (const [prot, flags] of [
      ['PROT_READ', 'MAP_SHARED'],
      ['PROT_READ', 'MAP_PRIVATE'],
      ['PROT_READ|PROT_WRITE', 'MAP_PRIVATE'],
    ] as const) {
      maps.push(await client.mmap({ fd: reader, length: PAGE, prot, flags }));
    }
    const after = await fuse.position();
    await client.pwrite({ fd, data: 'NEW', offset: 0 });
    await client.fsync({ fd });
    const handles = (await fuse.requests({ opcode: 'WRITE', after })).map(({ args }) => args['fh']);
    t.deepEqual([...new Set(handles)], [reply?.open?.fh], 'the handle of WRITE');
    for (const map of maps) await client.munmap({ map });
    for (const each of [reader, fd]) await client.close({ fd: each });
  },
);

guestTest('a write to a page that is being written back waits for it', async (t, guest) => {
  await using fuse = await mountWritebackCache(guest);
  await using client = await guest.client();
  await using other = await guest.client();
  const fd = await open(client, fuse, pattern(PAGE));
  const second = await other.open({ path: fuse.file('f'), flags: 'O_WRONLY' });
  const hold = await fuse.hold('WRITE');
  await client.pwrite({ fd, data: pageOf(1), offset: 0 });
  await beginWriteback(client, fd);
  const first = await hold.arrived();
  const writing = other.pwrite({ fd: second, data: 'second', offset: 0 });
  t.regex(
    await whereItWaits(guest, other, { call: writing, at: WAITS_FOR_A_PAGE }),
    WAITS_FOR_A_PAGE,
    'the second write waits',
  );
  await hold.stop();
  await hold.release(first);
  t.is(await writing, 6);
  await other.close({ fd: second });
  await client.fsync({ fd });
  const stored = await client.readFile({ path: fuse.backing('f') });
  t.is(firstDifference(stored, concat(bytes('second'), pageOf(1).subarray(6))), undefined);
  await client.close({ fd });
});

guestTest('an open that empties the cache waits for what it has written back', async (t, guest) => {
  await using fuse = await mountWritebackCache(guest);
  await using client = await guest.client();
  await using other = await guest.client();
  const fd = await open(client, fuse, pattern(PAGE));
  const hold = await fuse.hold('WRITE');
  await client.pwrite({ fd, data: pageOf(1), offset: 0 });
  const opening = other.open({ path: fuse.file('f'), flags: 'O_RDONLY' });
  const write = await hold.arrived();
  t.regex(
    await whereItWaits(guest, other, { call: opening, at: WAITS_FOR_A_PAGE }),
    WAITS_FOR_A_PAGE,
    'the open waits',
  );
  await hold.stop();
  await hold.release(write);
  const reader = await opening;
  const seen = await other.pread({ fd: reader, count: PAGE, offset: 0 });
  t.is(firstDifference(seen, pageOf(1)), undefined, 'what the open reads');
  await other.close({ fd: reader });
  await client.close({ fd });
});

guestTest(
  'that munmap could not tell the server the time of a store is the error of the next fsync, and of it alone',
  async (t, guest) => {
    await using fuse = await mountWritebackCache(guest);
    await using client = await guest.client();
    const fd = await open(client, fuse, pattern(PAGE));
    const map = await client.mmap({ fd, length: PAGE, prot: 'PROT_READ|PROT_WRITE', flags: 'MAP_SHARED' });
    await fuse.fail('SETATTR', 'EDQUOT', 1);
    await client.mwrite({ map, offset: 0, data: bytes('NEW') });
    const after = await fuse.position();
    t.is(await client.errno.munmap({ map }), 'ok', 'munmap has no error to give');
    const asked = await fuse.opcodes({ opcode: ['WRITE', 'SETATTR'], after });
    t.true(asked.includes('SETATTR'), `munmap tells the server the time: ${asked.join()}`);
    t.is(await client.errno.fsync({ fd }), 'EDQUOT', 'the next fsync');
    t.is(await client.errno.fsync({ fd }), 'ok', 'the one after it');
    await client.close({ fd });
  },
);

guestTest(
  'without the writeback cache attributes are asked for again after stores were written back',
  async (t, guest) => {
    await using fuse = await guest.mountFuse({ passthrough: 'off', attrValidS: LONG });
    await using client = await guest.client();
    const fd = await open(client, fuse, pattern(PAGE));
    const map = await client.mmap({ fd, length: PAGE, prot: 'PROT_READ|PROT_WRITE', flags: 'MAP_SHARED' });
    const asked = async (): Promise<string[]> => {
      const after = await fuse.position();
      await client.fstat({ fd });
      return fuse.opcodes({ opcode: 'GETATTR', after });
    };
    await client.mwrite({ map, offset: 0, data: bytes('NEW') });
    await client.msync({ map, flags: 'MS_SYNC' });
    t.deepEqual(await asked(), ['GETATTR'], 'the times of the server are others by now');
    t.deepEqual(await asked(), [], 'once');
    await client.munmap({ map });
    await client.close({ fd });
  },
);
