import { firstDifference, pattern } from '../lib/bytes.ts';
import { guestTest } from '../lib/guest-test.ts';
import { needsMappings } from '../lib/registration.ts';

const PAGE = 4096;
const BIG_BYTES = 3 * 1024 * 1024 + 17;

for (const flags of ['O_RDWR', 'O_RDWR|O_DIRECT']) {
  guestTest(`one call moves more than a FUSE request could, on ${flags} (A37)`, async (t, guest) => {
    await using fuse = await guest.mountFuse({
      init: { maxWrite: PAGE, maxPages: 1, maxReadahead: 0 },
      maxRead: PAGE,
    });
    await using client = await guest.client();
    const data = pattern(flags.includes('DIRECT') ? BIG_BYTES - 17 : BIG_BYTES);
    const fd = await client.open({ path: fuse.file('f'), flags: `${flags}|O_CREAT` });
    t.is(await client.pwrite({ fd, data, offset: 0 }), data.length, 'one write');
    const back = await client.pread({ fd, count: data.length, offset: 0 });
    t.is(back.length, data.length, 'one read');
    t.is(firstDifference(back, data), undefined);
    await client.close({ fd });
    t.deepEqual(await fuse.dataRequests(), []);
  });
}

guestTest(
  'between open and close the server is asked nothing, however much is moved (I2, I6)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse({ attrValidS: 3600 });
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: pattern(PAGE) });
    const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
    // The first write looks whether there is a capability of the file to take away.
    await client.pwrite({ fd, data: pattern(PAGE), offset: 0 });
    const after = await fuse.position();
    const ref = { make: { length: 16 * PAGE, seed: 3 } };
    const rounds = Array.from({ length: 40 }, (_none, round) => {
      const offset = 16 * PAGE * (round % 16);
      return [
        { call: 'pwrite', args: { fd, offset, data: ref } },
        { call: 'pread', args: { fd, offset, count: 16 * PAGE } },
        { call: 'writev', args: { fd, chunks: [ref] } },
        { call: 'lseek', args: { fd, offset: 0, whence: 'SEEK_SET' } },
        { call: 'readv', args: { fd, counts: [PAGE, PAGE] } },
      ] as const;
    });
    const results = await client.batch({ calls: rounds.flat(), digests: true });
    t.deepEqual(
      results.filter((each) => 'errno' in each),
      [],
    );
    const seen = await fuse.opcodes({ after });
    t.deepEqual(
      seen.filter((opcode) => opcode !== 'GETXATTR'),
      [],
      '10 MiB and 200 calls',
    );
    t.true(seen.length <= 80, `at most one GETXATTR for each write: ${seen.length}`);
    await client.close({ fd });
  },
);

guestTest('mincore through FUSE tells of the page cache of the backing file (A34)', async (t, guest) => {
  needsMappings(guest);
  await using fuse = await guest.mountFuse();
  await using client = await guest.client();
  const length = 8 * PAGE;
  await client.writeFile({ path: fuse.backing('f'), data: pattern(length) });
  const native = await client.open({ path: fuse.backing('f'), flags: 'O_RDWR' });
  const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
  const how = { length, prot: 'PROT_READ', flags: 'MAP_SHARED' } as const;
  const map = await client.mmap({ fd, ...how });
  const mapNative = await client.mmap({ fd: native, ...how });
  const resident = async (which: number): Promise<number[]> => [...(await client.mincore({ map: which }))];

  t.deepEqual(await resident(map), Array<number>(8).fill(1), 'just written');
  await client.fsync({ fd: native });
  await client.posix_fadvise({ fd: native, offset: 0, length: 0, advice: 'POSIX_FADV_DONTNEED' });
  t.deepEqual(await resident(map), await resident(mapNative), 'thrown out at the backing path');
  await client.pread({ fd, count: length, offset: 0 });
  t.deepEqual(await resident(mapNative), Array<number>(8).fill(1), 'read back in through FUSE');
  t.deepEqual(await resident(map), Array<number>(8).fill(1));
  for (const each of [map, mapNative]) await client.munmap({ map: each });
  for (const each of [fd, native]) await client.close({ fd: each });
  t.deepEqual(await fuse.dataRequests(), []);
});

/** linux/fs.h */
const FIBMAP = 0x0000_0001;
const FS_IOC_FIEMAP = 0xc020_660b;

guestTest('FIBMAP and FIEMAP do not tell where the backing file is (A46)', async (t, guest) => {
  await using fuse = await guest.mountFuse();
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: pattern(2 * PAGE) });
  const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDONLY' });
  const fiemap = new Uint8Array(32);
  new DataView(fiemap.buffer).setBigUint64(8, 2n ** 63n - 1n, true);
  t.is(await client.errno.ioctl({ fd, request: FS_IOC_FIEMAP, arg: fiemap }), 'EOPNOTSUPP');
  const fibmap = await client.ioctl({ fd, request: FIBMAP, arg: new Uint8Array(4) });
  t.deepEqual(fibmap.arg, new Uint8Array(4), 'block 0: there is no device that it would be on');
  t.deepEqual(await fuse.requests('BMAP'), []);
  await client.close({ fd });
});
