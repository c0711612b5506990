import { concat, firstDifference, pattern } from '../lib/bytes.ts';
import { ATTR, ATTR_OUT, u64 } from '../lib/entry-answer.ts';
import { guestTest } from '../lib/guest-test.ts';
import { mountWritebackCache, pageOf } from '../lib/writeback-cache.ts';

/** Copying from one file to another at different offsets: which of them, and of the offsets, counts for what. */

const PAGE = 4096;
/** Longer than any test. Seconds. */
const LONG = 100_000;
/** Either of them, as the kernel is old or new. */
const COPY = ['COPY_FILE_RANGE', 'COPY_FILE_RANGE_64'] as const;

guestTest(
  'what waits in the cache of the source where a copy begins is copied, wherever it goes (A24)',
  async (t, guest) => {
    await using fuse = await mountWritebackCache(guest);
    await using client = await guest.client();
    for (const name of ['from', 'to']) {
      await client.writeFile({ path: fuse.backing(name), data: pattern(8 * PAGE) });
    }
    const fdIn = await client.open({ path: fuse.file('from'), flags: 'O_RDWR' });
    const fdOut = await client.open({ path: fuse.file('to'), flags: 'O_RDWR' });
    for (const [offIn, offOut] of [
      [PAGE, 5 * PAGE],
      [5 * PAGE, PAGE],
    ] as const) {
      const data = pageOf(offIn / PAGE);
      await client.pwrite({ fd: fdIn, data, offset: offIn });
      t.is(await client.copy_file_range({ fdIn, offIn, fdOut, offOut, length: PAGE }), PAGE);
      const copied = (await client.readFile({ path: fuse.backing('to') })).subarray(offOut, offOut + PAGE);
      t.is(
        firstDifference(copied, data),
        undefined,
        `from ${offIn} to ${offOut}: what the server has copied`,
      );
    }
    for (const fd of [fdIn, fdOut]) await client.close({ fd });
  },
);

guestTest(
  'what waits in the cache of the target beside what is copied is not lost, wherever that comes from (A24)',
  async (t, guest) => {
    await using fuse = await mountWritebackCache(guest);
    await using client = await guest.client();
    const data = pattern(8 * PAGE, 3);
    await client.writeFile({ path: fuse.backing('from'), data });
    const fdIn = await client.open({ path: fuse.file('from'), flags: 'O_RDONLY' });
    for (const [offIn, page] of [
      [5 * PAGE, 1],
      [PAGE, 5],
    ] as const) {
      const name = `page ${page}`;
      const before = pattern(8 * PAGE, 7);
      await client.writeFile({ path: fuse.backing(name), data: before });
      const fdOut = await client.open({ path: fuse.file(name), flags: 'O_RDWR' });
      const [beside, offOut] = [page * PAGE, page * PAGE + 2000];
      await client.pwrite({ fd: fdOut, data: 'written before the copy', offset: beside });
      t.is(await client.copy_file_range({ fdIn, offIn, fdOut, offOut, length: 100 }), 100);
      await client.close({ fd: fdOut });
      const wanted = concat(before);
      wanted.set(new TextEncoder().encode('written before the copy'), beside);
      wanted.set(data.subarray(offIn, offIn + 100), offOut);
      const stored = await client.readFile({ path: fuse.backing(name) });
      t.is(firstDifference(stored, wanted), undefined, `${name}, copied from ${offIn}: what the server has`);
    }
    await client.close({ fd: fdIn });
  },
);

/** Sizes of source and target, the offset of the copy of ten bytes in the target, and whether that makes it longer. */
const COPIES = [
  { what: 'past the end of a target', source: 2 * PAGE, target: 5, offOut: 5, longer: true },
  { what: 'within a target', source: 10, target: PAGE, offOut: 100, longer: false },
] as const;

guestTest(
  'what the server tells of the size during a copy counts but for the file that is made longer (A41)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse({ passthrough: 'off', attrValidS: LONG });
    await using client = await guest.client();
    await using other = await guest.client();
    const told = 3 * PAGE;
    for (const { what, source, target, offOut, longer } of COPIES) {
      const names = [`source, ${what}`, `target, ${what}`] as const;
      await client.writeFile({ path: fuse.backing(names[0]), data: pattern(source) });
      await client.writeFile({ path: fuse.backing(names[1]), data: pattern(target, 5) });
      const [fdIn, fdOut] = await Promise.all(
        names.map((name) => client.open({ path: fuse.file(name), flags: 'O_RDWR' })),
      );
      const seen = await Promise.all(
        names.map((name) => other.open({ path: fuse.file(name), flags: 'O_RDONLY' })),
      );
      if (fdIn === undefined || fdOut === undefined) throw new Error('two files');
      const hold = await fuse.hold({ opcode: COPY });
      const copying = client.copy_file_range({ fdIn, offIn: 0, fdOut, offOut, length: 10 });
      copying.catch(() => undefined);
      const request = await hold.arrived();
      const takeBack = await fuse.rule({
        match: { opcode: 'GETATTR' },
        action: { do: 'patch', at: ATTR_OUT.attr + ATTR.size, bytes: u64(BigInt(told)) },
      });
      const sizes: number[] = [];
      for (const fd of seen) {
        await other.fstat({ fd, flags: 'AT_STATX_FORCE_SYNC' });
        sizes.push((await other.fstat({ fd, flags: 'AT_STATX_DONT_SYNC' })).size);
      }
      await takeBack();
      await hold.stop();
      await hold.release(request);
      t.is(await copying, 10, what);
      t.is(sizes[0], told, `${what}: the size of the source is what the server tells`);
      const of = longer ? 'is not what the server tells of it meanwhile' : 'is what the server tells';
      t.is(sizes[1], longer ? target : told, `${what}: the size of the target ${of}`);
      for (const fd of [fdIn, fdOut]) await client.close({ fd });
      for (const fd of seen) await other.close({ fd });
    }
  },
);
