import { firstDifference, pattern, text } from '../lib/bytes.ts';
import { OpenFlag } from '../lib/fuse-abi.ts';
import { guestTest } from '../lib/guest-test.ts';
import { mountWithModes, openAs } from '../lib/open-modes.ts';
import { pageOf } from '../lib/writeback-cache.ts';

/** Files that are direct by the word of the server: opened with O_DIRECT as well, and beside others in the cache. */

const PAGE = 4096;
/** Longer than any test. Seconds. */
const LONG = 100_000;
/** Attributes that are believed, so that a read does not ask for the size. */
const BELIEVED = { passthrough: 'off', attrValidS: LONG } as const;
const WITHOUT_INVAL = { dropFlags: ['AUTO_INVAL_DATA'] } as const;

guestTest(
  'a file that is direct by the server and by O_DIRECT is read from where the last read ended, to where the server says',
  async (t, guest) => {
    for (const addFlags of [[], ['ASYNC_DIO']] as const) {
      const how = addFlags.join() || 'no ASYNC_DIO';
      await using fuse = await guest.mountFuse({ ...BELIEVED, init: { ...WITHOUT_INVAL, addFlags } });
      await using client = await guest.client();
      const data = pattern(3 * PAGE);
      await client.writeFile({ path: fuse.backing('f'), data: data.subarray(0, PAGE) });
      const fd = await openAs(client, fuse, { name: 'f', mode: 'direct', flags: 'O_RDONLY|O_DIRECT' });
      await client.writeFile({ path: fuse.backing('f'), data });
      const { size } = await client.fstat({ fd, flags: 'AT_STATX_DONT_SYNC' });
      t.is(size, PAGE, `${how}: the kernel knows of one page`);
      for (const page of [0, 1, 2]) {
        const seen = await client.read({ fd, count: PAGE });
        const wanted = data.subarray(page * PAGE, (page + 1) * PAGE);
        t.is(
          firstDifference(seen, wanted),
          undefined,
          `${how}: page ${page} of three, one read after the other`,
        );
      }
      t.is((await client.read({ fd, count: PAGE })).length, 0, `${how}: where the server has no more`);
      const offsets = (await fuse.requests('READ')).map(({ args }) => Number(args['offset']) / PAGE);
      t.deepEqual(offsets, [0, 1, 2, 3], `${how}: the pages that the server is asked for`);
      await client.close({ fd });
    }
  },
);

guestTest(
  'a file that is direct by the server and by O_DIRECT is written from where the last write ended, one request after the other',
  async (t, guest) => {
    const init = { ...WITHOUT_INVAL, addFlags: ['ASYNC_DIO'], maxWrite: PAGE } as const;
    await using fuse = await guest.mountFuse({ ...BELIEVED, init });
    await using client = await guest.client();
    await using other = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: pattern(4 * PAGE) });
    const fd = await openAs(client, fuse, { name: 'f', mode: 'direct', flags: 'O_RDWR|O_DIRECT' });
    const data = pattern(3 * PAGE, 5);
    t.is(await client.write({ fd, data: data.subarray(0, PAGE) }), PAGE, 'the first write');
    const hold = await fuse.hold('WRITE');
    const writing = client.write({ fd, data: data.subarray(PAGE) });
    writing.catch(() => undefined);
    const first = await hold.arrived();
    // A request that is sent now comes after one that would not wait.
    await other.stat({ path: fuse.path });
    t.is((await fuse.requests('WRITE')).length, 2, 'the second request of a write waits for the first');
    await hold.stop();
    await hold.release(first);
    t.is(await writing, 2 * PAGE, 'the second write');
    const stored = await client.readFile({ path: fuse.backing('f') });
    t.is(
      firstDifference(stored.subarray(0, 3 * PAGE), data),
      undefined,
      'the second write goes on where the first has ended',
    );
    await client.close({ fd });
  },
);

/** Direct writes that end where a page ends: the pages that they are about, and the one behind them. */
const WRITES = [
  { offset: PAGE, length: PAGE, first: 1, behind: 2 },
  { offset: 3 * PAGE + 100, length: 2 * PAGE - 100, first: 3, behind: 5 },
] as const;

guestTest(
  'a direct write that ends where a page ends leaves the page behind it in the cache (D8)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse({ ...BELIEVED, init: WITHOUT_INVAL });
    await using client = await guest.client();
    await fuse.answerOpen('OPEN', { openFlags: OpenFlag.KEEP_CACHE });
    await client.writeFile({ path: fuse.backing('f'), data: pattern(8 * PAGE) });
    const cached = await client.open({ path: fuse.file('f'), flags: 'O_RDONLY' });
    await client.posix_fadvise({ fd: cached, offset: 0, length: 0, advice: 'POSIX_FADV_RANDOM' });
    await client.pread({ fd: cached, count: 8 * PAGE, offset: 0 });
    await fuse.answerOpen('OPEN', { openFlags: OpenFlag.DIRECT_IO | OpenFlag.KEEP_CACHE }, 1);
    const direct = await client.open({ path: fuse.file('f'), flags: 'O_WRONLY' });
    for (const { offset, length, first, behind } of WRITES) {
      const what = `${length} bytes at ${offset}`;
      t.is(await client.pwrite({ fd: direct, data: pattern(length, 5), offset }), length, what);
      const read = async (page: number): Promise<string[]> => {
        const after = await fuse.position();
        await client.pread({ fd: cached, count: PAGE, offset: page * PAGE });
        return fuse.opcodes({ opcode: 'READ', after });
      };
      t.deepEqual(await read(first - 1), [], `${what}: the page in front of them is in the cache still`);
      t.deepEqual(await read(behind), [], `${what}: the page behind them is in the cache still`);
      // Where the kernel does not keep the two kinds of opens apart, not even that page leaves it.
      if (guest.expected.hasIoModes)
        t.deepEqual(await read(first), ['READ'], `${what}: the first page is not`);
    }
    for (const fd of [direct, cached]) await client.close({ fd });
  },
);

guestTest(
  'a shared mapping of a direct file shows what the server has, not old pages (D7)',
  async (t, guest) => {
    const init = { ...WITHOUT_INVAL, addFlags: ['DIRECT_IO_ALLOW_MMAP'] } as const;
    await using fuse = await mountWithModes(guest, { ...BELIEVED, init });
    await using client = await guest.client();
    await fuse.answerOpen('OPEN', { openFlags: OpenFlag.KEEP_CACHE });
    await client.writeFile({ path: fuse.backing('f'), data: pageOf(0x6f) });
    const cached = await client.open({ path: fuse.file('f'), flags: 'O_RDONLY' });
    await client.pread({ fd: cached, count: PAGE, offset: 0 });
    await fuse.answerOpen('OPEN', { openFlags: OpenFlag.DIRECT_IO | OpenFlag.KEEP_CACHE });
    for (const [what, flags, prot] of [
      ['for loads', 'O_RDONLY', 'PROT_READ'],
      ['for loads and stores', 'O_RDWR', 'PROT_READ|PROT_WRITE'],
    ] as const) {
      await client.writeFile({ path: fuse.backing('f'), data: what.padEnd(PAGE), flags: 'O_WRONLY' });
      const seen = text(await client.pread({ fd: cached, count: what.length, offset: 0 }));
      t.not(seen, what, `${what}: an old page is in the cache`);
      const fd = await client.open({ path: fuse.file('f'), flags });
      const map = await client.mmap({ fd, length: PAGE, prot, flags: 'MAP_SHARED' });
      t.is(text(await client.mread({ map, offset: 0, length: what.length })), what, `mapped ${what}`);
      await client.munmap({ map });
      await client.close({ fd });
    }
    await client.close({ fd: cached });
  },
);
