import { bytes, concat, firstDifference, pattern } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import { eventually } from '../lib/eventually.ts';
import type { FuseMount } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';
import { beginWriteback, mountWritebackCache, pageOf } from '../lib/writeback-cache.ts';

/** Pages of the writeback cache of which a part is written, stored to, or made a hole: what the rest of them is. */

const PAGE = 4096;
/** In the stack of a thread whose store waits for a page that is being written back. */
const WAITS_FOR_A_PAGE = /fuse_page_mkwrite|fuse_wait_on_page_writeback|folio_wait_bit/;

async function open(client: Client, fuse: FuseMount, data: Uint8Array, name = 'f'): Promise<number> {
  await client.writeFile({ path: fuse.backing(name), data });
  return client.open({ path: fuse.file(name), flags: 'O_RDWR' });
}

/** Where the writes are that end with their page, in a file of three pages of which the last has 1000 bytes. */
const ENDS = { 'of three bytes': PAGE - 3, 'of all but the first byte': PAGE + 1 } as const;

guestTest('a write up to the end of a page leaves the beginning of the page as it was', async (t, guest) => {
  await using fuse = await mountWritebackCache(guest);
  await using client = await guest.client();
  const old = pattern(2 * PAGE + 1000);
  for (const [what, offset] of Object.entries(ENDS)) {
    const fd = await open(client, fuse, old, what);
    const data = pattern(PAGE - (offset % PAGE), 5);
    await client.pwrite({ fd, data, offset });
    const wanted = concat(old);
    wanted.set(data, offset);
    const seen = await client.pread({ fd, count: 3 * PAGE, offset: 0 });
    t.is(firstDifference(seen, wanted), undefined, `${what}: what is read`);
    await client.fsync({ fd });
    const stored = await client.readFile({ path: fuse.backing(what) });
    t.is(firstDifference(stored, wanted), undefined, `${what}: what the server has`);
    await client.close({ fd });
  }
});

guestTest('what is added behind the last page of a file is written without reading any', async (t, guest) => {
  await using fuse = await mountWritebackCache(guest);
  await using client = await guest.client();
  for (const [length, offset] of [
    [0, 0],
    [PAGE, PAGE],
    [2 * PAGE, 2 * PAGE + 10],
    [100, PAGE],
  ] as const) {
    const what = `at ${offset} of ${length} bytes`;
    const fd = await open(client, fuse, pattern(length), what);
    const after = await fuse.position();
    await client.pwrite({ fd, data: 'added', offset });
    t.deepEqual(
      await fuse.opcodes({ opcode: 'READ', after }),
      [],
      `${what}: the server is asked for no page`,
    );
    await client.fsync({ fd });
    const stored = await client.readFile({ path: fuse.backing(what) });
    const wanted = concat(pattern(length), new Uint8Array(offset - length), bytes('added'));
    t.is(firstDifference(stored, wanted), undefined, `${what}: what the server has`);
    await client.close({ fd });
  }
});

guestTest('a store into a mapping waits until its page has been written back', async (t, guest) => {
  await using fuse = await mountWritebackCache(guest);
  await using client = await guest.client();
  // Of its own process: one whose store waits may wait for its address space with whatever else it does.
  await using other = await guest.client();
  const fd = await open(client, fuse, pattern(PAGE));
  const mapped = await other.open({ path: fuse.file('f'), flags: 'O_RDWR' });
  const whole = { length: PAGE, prot: 'PROT_READ|PROT_WRITE', flags: 'MAP_SHARED' } as const;
  const map = await other.mmap({ fd: mapped, ...whole });
  await client.pwrite({ fd, data: pageOf(1), offset: 0 });
  await other.mread({ map, offset: 0, length: 1 });
  const hold = await fuse.hold('WRITE');
  await beginWriteback(client, fd);
  const write = await hold.arrived();
  let done = false;
  const storing = other.mwrite({ map, offset: 0, data: bytes('stored') });
  const end = (): void => {
    done = true;
  };
  storing.then(end, end);
  const where = await eventually(
    async () => (done ? 'has stored' : await guest.where(other.pid)),
    (seen) => seen === 'has stored' || WAITS_FOR_A_PAGE.test(seen),
  );
  t.regex(where, WAITS_FOR_A_PAGE, 'the store waits for the page that is on its way to the server');
  await hold.stop();
  await hold.release(write);
  await storing;
  await client.fsync({ fd });
  const stored = await client.readFile({ path: fuse.backing('f') });
  t.is(
    firstDifference(stored, concat(bytes('stored'), pageOf(1).subarray(6))),
    undefined,
    'what comes of it',
  );
  await other.munmap({ map });
  await other.close({ fd: mapped });
  await client.close({ fd });
});

/** Ranges of a file of eight pages: the page in front of them waits in the cache. */
const HOLES = [
  { mode: 'FALLOC_FL_PUNCH_HOLE|FALLOC_FL_KEEP_SIZE', offset: 5 * PAGE, length: PAGE },
  { mode: 'FALLOC_FL_PUNCH_HOLE|FALLOC_FL_KEEP_SIZE', offset: 2 * PAGE + 100, length: 50 },
  { mode: 'FALLOC_FL_ZERO_RANGE', offset: 3 * PAGE, length: 2 * PAGE + 1 },
] as const;

guestTest('what waits in the cache in front of a hole or of zeros is not lost', async (t, guest) => {
  await using fuse = await mountWritebackCache(guest);
  await using client = await guest.client();
  // Where the files of the server cannot have zeros made, they are not: it is about what is in front of them.
  await fuse.rule({ match: { opcode: 'FALLOCATE' }, action: { do: 'body', body: new Uint8Array() } });
  for (const { mode, offset, length } of HOLES) {
    const what = `${mode} of ${length} bytes at ${offset}`;
    const fd = await open(client, fuse, pattern(8 * PAGE), `at ${offset}`);
    await client.pwrite({ fd, data: pageOf(7), offset: PAGE });
    await client.fallocate({ fd, mode, offset, length });
    const seen = await client.pread({ fd, count: PAGE, offset: PAGE });
    t.is(firstDifference(seen, pageOf(7)), undefined, `${what}: what is read`);
    await client.fsync({ fd });
    const stored = await client.readFile({ path: fuse.backing(`at ${offset}`) });
    const there = stored.subarray(PAGE, 2 * PAGE);
    t.is(firstDifference(there, pageOf(7)), undefined, `${what}: what the server has`);
    await client.close({ fd });
  }
});
