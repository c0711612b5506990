import { concat, firstDifference, pattern } from '../lib/bytes.ts';
import { eventually } from '../lib/eventually.ts';
import { guestTest } from '../lib/guest-test.ts';
import { mountWritebackCache, pageOf } from '../lib/writeback-cache.ts';

/** What is written or stored through the cache: by which calls it comes to the server, in what order and in what parts. */

const PAGE = 4096;
/** Longer than any test. Seconds. */
const LONG = 100_000;
const LONG_AGO_NS = 1_000_000_000;
/** include/uapi/linux/fuse.h */
const FATTR_MTIME = 1 << 5;
const FSYNC_FDATASYNC = 1 << 0;
/** In the stack of a thread: for its being written back, or for whoever has it locked and waits for that. */
const WAITS_FOR_A_PAGE = /fuse_wait_on_page_writeback|folio_wait_bit/;

guestTest(
  'with the writeback cache a file that was opened for writing only gets what was written',
  async (t, guest) => {
    await using fuse = await mountWritebackCache(guest);
    await using client = await guest.client();
    for (const [name, flags] of [
      ['old', 'O_WRONLY'],
      ['new', 'O_WRONLY|O_CREAT|O_EXCL'],
    ] as const) {
      if (name === 'old') await client.writeFile({ path: fuse.backing(name), data: '' });
      const fd = await client.open({ path: fuse.file(name), flags });
      const data = pattern(2 * PAGE, 5);
      t.is(await client.pwrite({ fd, data, offset: 0 }), data.length, flags);
      t.is(await client.errno.fsync({ fd }), 'ok', `${flags}: fsync`);
      const stored = await client.readFile({ path: fuse.backing(name) });
      t.is(firstDifference(stored, data), undefined, `${flags}: what the server has`);
      await client.close({ fd });
    }
  },
);

guestTest('fdatasync tells the server the time that the kernel keeps, before FSYNC', async (t, guest) => {
  await using fuse = await mountWritebackCache(guest);
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
  await client.utimens({ path: fuse.backing('f'), atimeNs: LONG_AGO_NS, mtimeNs: LONG_AGO_NS });
  const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
  const after = await fuse.position();
  await client.pwrite({ fd, data: 'new', offset: 0 });
  const { mtimeNs } = await client.fstat({ fd, flags: 'AT_STATX_DONT_SYNC' });
  await client.fdatasync({ fd });
  const sent = await fuse.requests({ opcode: ['SETATTR', 'FSYNC'], after });
  t.deepEqual(
    sent.map(({ opcode, args }) =>
      opcode === 'SETATTR' ? Number(args['valid']) & FATTR_MTIME : Number(args['fsync_flags']),
    ),
    [FATTR_MTIME, FSYNC_FDATASYNC],
    'the time, and then FSYNC for the data',
  );
  t.is((await client.stat({ path: fuse.backing('f') })).mtimeNs, mtimeNs, 'the time of the write');
  await client.close({ fd });
});

guestTest(
  'a close brings what was stored through a mapping to the server before its FLUSH, also without the writeback cache',
  async (t, guest) => {
    await using client = await guest.client();
    for (const back of [false, true]) {
      await using fuse = await (back ? mountWritebackCache(guest) : guest.mountFuse({ passthrough: 'off' }));
      await client.writeFile({ path: fuse.backing('f'), data: pattern(2 * PAGE) });
      const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
      const how = { length: 2 * PAGE, prot: 'PROT_READ|PROT_WRITE', flags: 'MAP_SHARED' };
      const map = await client.mmap({ fd, ...how });
      await client.mwrite({ map, offset: PAGE, data: pageOf(7) });
      const after = await fuse.position();
      // Of another descriptor of the same open file: the mapping stays, and so does the file.
      await client.close({ fd: await client.dup({ fd }) });
      const what = back ? 'with the writeback cache' : 'without it';
      const sent = await fuse.opcodes({ opcode: ['WRITE', 'FLUSH'], after });
      t.deepEqual([...new Set(sent)], ['WRITE', 'FLUSH'], `${what}: what the close sends`);
      const stored = await client.readFile({ path: fuse.backing('f') });
      const wanted = concat(pattern(2 * PAGE).subarray(0, PAGE), pageOf(7));
      t.is(firstDifference(stored, wanted), undefined, `${what}: what the server has`);
      await client.munmap({ map });
      await client.close({ fd });
    }
  },
);

/** The page that is being written back, and those that are written meanwhile: it is not the first of them. */
const SENT = 3;
const WRITTEN = { first: 2, pages: 3 } as const;

guestTest(
  'a write of several pages through the cache comes after that of a page from a mapping, though it is not the first',
  async (t, guest) => {
    const init = { dropFlags: ['AUTO_INVAL_DATA'] } as const;
    await using fuse = await guest.mountFuse({ passthrough: 'off', attrValidS: LONG, init });
    await using client = await guest.client();
    // Of its own process: one whose store waits may wait for its address space with whatever else it does.
    await using other = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: pattern(6 * PAGE) });
    const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
    const own = await other.open({ path: fuse.file('f'), flags: 'O_WRONLY' });
    const how = { length: 6 * PAGE, prot: 'PROT_READ|PROT_WRITE', flags: 'MAP_SHARED' };
    const map = await client.mmap({ fd, ...how });
    const hold = await fuse.hold('WRITE');
    // The page may be written back before the store that made it writable is done: then the store waits as well.
    const storing = client.mwrite({ map, offset: SENT * PAGE, data: pageOf(7) });
    const sending = storing.then(() =>
      client.sync_file_range({ fd, offset: 0, length: 0, flags: 'SYNC_FILE_RANGE_WRITE' }),
    );
    sending.catch(() => undefined);
    const first = await hold.arrived();
    const data = pattern(WRITTEN.pages * PAGE, 9);
    const writing = other.pwrite({ fd: own, data, offset: WRITTEN.first * PAGE });
    writing.catch(() => undefined);
    const where = await eventually(
      async () => ((await fuse.opcodes('WRITE')).length > 1 ? 'at the server' : await guest.where(other.pid)),
      (seen) => seen === 'at the server' || WAITS_FOR_A_PAGE.test(seen),
    );
    t.regex(where, WAITS_FOR_A_PAGE, 'the write waits for the page that is being written back');
    await hold.stop();
    await hold.release(first);
    await sending;
    t.is(await writing, data.length);
    const stored = await client.readFile({ path: fuse.backing('f') });
    const there = stored.subarray(WRITTEN.first * PAGE, (WRITTEN.first + WRITTEN.pages) * PAGE);
    t.is(firstDifference(there, data), undefined, 'the later one is what the server has');
    await other.close({ fd: own });
    await client.munmap({ map });
    await client.close({ fd });
  },
);

guestTest(
  'a write through the cache to pages that are there is one WRITE, wherever in a page it begins and ends',
  async (t, guest) => {
    const init = { dropFlags: ['AUTO_INVAL_DATA'] } as const;
    await using fuse = await guest.mountFuse({ passthrough: 'off', attrValidS: LONG, init });
    await using client = await guest.client();
    for (const [offset, length] of [
      [0, PAGE],
      [100, PAGE],
      [PAGE - 1, 2],
      [100, 2 * PAGE],
      [PAGE - 1, 2 * PAGE + 2],
    ] as const) {
      const name = `${length} bytes from ${offset}`;
      await client.writeFile({ path: fuse.backing(name), data: pattern(5 * PAGE) });
      const fd = await client.open({ path: fuse.file(name), flags: 'O_RDWR' });
      await client.pread({ fd, count: 5 * PAGE, offset: 0 });
      const after = await fuse.position();
      t.is(await client.pwrite({ fd, data: pattern(length, 9), offset }), length, name);
      const sent = await fuse.requests({ opcode: 'WRITE', after });
      const parts = sent.map(({ args }) => [args['offset'], args['size']]);
      t.deepEqual(parts, [[offset, length]], `${name}: what is sent`);
      await client.close({ fd });
    }
  },
);
