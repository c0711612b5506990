import { firstDifference, pattern, text } from '../lib/bytes.ts';
import { guestTest } from '../lib/guest-test.ts';

const GIB = 2 ** 30;
const PAGE = 4096;

guestTest('fallocate is the server’s work, and reads see its result (A28)', async (t, guest) => {
  await using fuse = await guest.mountFuse({ attrValidS: 3600 });
  await using client = await guest.client();
  const data = pattern(4 * PAGE);
  await client.writeFile({ path: fuse.backing('f'), data });
  const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });

  await client.fallocate({ fd, offset: 0, length: 6 * PAGE });
  t.is((await client.fstat({ fd })).size, 6 * PAGE);
  const punch = { mode: 'FALLOC_FL_PUNCH_HOLE|FALLOC_FL_KEEP_SIZE', offset: PAGE, length: PAGE };
  await client.fallocate({ fd, ...punch });
  const expected = new Uint8Array(6 * PAGE);
  expected.set(data);
  expected.fill(0, PAGE, 2 * PAGE);
  const back = await client.pread({ fd, count: 8 * PAGE, offset: 0 });
  t.is(firstDifference(back, expected), undefined, 'through the descriptor');
  t.is((await fuse.requests('FALLOCATE')).length, 2);
  await client.close({ fd });
  t.is(firstDifference(await client.readFile({ path: fuse.backing('f') }), expected), undefined, 'backing');
  t.deepEqual(await fuse.dataRequests(), []);
});

guestTest(
  'fallocate that the server does not know is not supported, and not asked again (A28)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse();
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'x' });
    await fuse.fail('FALLOCATE', 'ENOSYS');
    const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });

    t.is(await client.errno.fallocate({ fd, offset: 0, length: PAGE }), 'EOPNOTSUPP');
    t.is(await client.errno.fallocate({ fd, offset: 0, length: PAGE }), 'EOPNOTSUPP');
    t.is((await fuse.requests('FALLOCATE')).length, 1);
    t.is((await client.stat({ path: fuse.backing('f') })).size, 1, 'the kernel does not do it by itself');
    await client.close({ fd });
  },
);

guestTest('offsets beyond 4 GiB arrive whole (A36)', async (t, guest) => {
  await using fuse = await guest.mountFuse({ attrValidS: 3600 });
  await using client = await guest.client();
  const data = pattern(5000);
  const offset = 5 * GIB + 123;
  const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR|O_CREAT' });

  t.is(await client.pwrite({ fd, data, offset }), 5000);
  t.is((await client.fstat({ fd })).size, offset + 5000);
  t.is(await client.lseek({ fd, offset: 0, whence: 'SEEK_END' }), offset + 5000);
  t.is(firstDifference(await client.pread({ fd, count: 9000, offset }), data), undefined);
  const hole = await client.pread({ fd, count: PAGE, offset: offset - 4 * GIB });
  t.is(firstDifference(hole, new Uint8Array(PAGE)), undefined, 'nothing 4 GiB below');
  if (guest.expected.mapsBackingFile) {
    const there = { length: PAGE, offset: 5 * GIB };
    const map = await client.mmap({ fd, prot: 'PROT_READ', flags: 'MAP_SHARED', ...there });
    const mapped = await client.mread({ map, offset: 123, length: 1000 });
    t.is(firstDifference(mapped, data.subarray(0, 1000)), undefined, 'a mapping from there');
    await client.munmap({ map });
  }
  const native = await client.open({ path: fuse.backing('f'), flags: 'O_RDONLY' });
  t.is(firstDifference(await client.pread({ fd: native, count: 9000, offset }), data), undefined, 'backing');
  for (const each of [fd, native]) await client.close({ fd: each });
  t.deepEqual(await fuse.dataRequests(), []);
});

guestTest('RLIMIT_FSIZE of the caller cuts a write and then refuses it (A38)', async (t, guest) => {
  await using fuse = await guest.mountFuse();
  await using client = await guest.client();
  const limit = 5000;
  await client.signal({ signal: 'SIGXFSZ', disposition: 'ignore' });
  await client.setrlimit({ resource: 'RLIMIT_FSIZE', soft: limit });
  const outcomes = async (path: string): Promise<unknown> => {
    const fd = await client.open({ path, flags: 'O_RDWR|O_CREAT' });
    const results = [
      await client.pwrite({ fd, data: pattern(3000), offset: 4000 }),
      await client.errno.pwrite({ fd, data: pattern(1), offset: limit }),
      await client.errno.pwrite({ fd, data: pattern(3000), offset: 9000 }),
      await client.pwrite({ fd, data: pattern(100), offset: 0 }),
      (await client.fstat({ fd })).size,
    ];
    await client.close({ fd });
    return results;
  };

  t.deepEqual(await outcomes(fuse.file('f')), [1000, 'EFBIG', 'EFBIG', 100, limit]);
  t.deepEqual(await outcomes(fuse.backing('native')), [1000, 'EFBIG', 'EFBIG', 100, limit], 'native');
  t.deepEqual(await fuse.dataRequests(), []);
});

guestTest(
  'fallocate and truncation past RLIMIT_FSIZE of the caller are refused, and the server is not asked (A28, A38)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse();
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
    await client.signal({ signal: 'SIGXFSZ', disposition: 'ignore' });
    await client.setrlimit({ resource: 'RLIMIT_FSIZE', soft: 5000 });
    const path = fuse.file('f');
    const fd = await client.open({ path, flags: 'O_RDWR' });
    const calls: Readonly<Record<string, (length: number) => Promise<string>>> = {
      FALLOCATE: (length) => client.errno.fallocate({ fd, offset: 0, length }),
      'FALLOCATE behind the end': (length) =>
        client.errno.fallocate({ fd, offset: 3000, length: length - 3000 }),
      'SETATTR of ftruncate': (length) => client.errno.ftruncate({ fd, length }),
      'SETATTR of truncate': (length) => client.errno.truncate({ path, length }),
    };
    for (const [what, call] of Object.entries(calls)) {
      const sent = async (): Promise<number> =>
        (await fuse.requests({ opcode: ['FALLOCATE', 'SETATTR'] })).length;
      const before = await sent();
      t.is(await call(5001), 'EFBIG', `${what}: a byte too much`);
      t.is(await sent(), before, `${what}: the server is not asked for it`);
      t.is(await call(5000), 'ok', `${what}: up to the limit`);
      t.is(await sent(), before + 1, `${what}: the server is`);
      await client.truncate({ path: fuse.backing('f'), length: 8 });
      await client.fstat({ fd });
    }
    const mode = 'FALLOC_FL_KEEP_SIZE';
    const kept = await client.errno.fallocate({ fd, mode, offset: 0, length: 10_000 });
    t.is(kept, 'ok', 'space beyond the limit that makes the file no longer');
    await client.close({ fd });
    t.deepEqual(await fuse.dataRequests(), []);
  },
);

guestTest('a write past RLIMIT_FSIZE raises SIGXFSZ in the caller (A38)', async (t, guest) => {
  await using fuse = await guest.mountFuse();
  await using client = await guest.client();
  await client.signal({ signal: 'SIGXFSZ', disposition: 'default' });
  await client.setrlimit({ resource: 'RLIMIT_FSIZE', soft: 100 });
  const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR|O_CREAT' });

  const write = client.errno.pwrite({ fd, data: 'x', offset: 100 }).catch(() => undefined);
  t.is((await client.exited()).signal, 'SIGXFSZ');
  await write;
  t.deepEqual(await fuse.dataRequests(), []);
});

guestTest('a full backing filesystem is the caller’s ENOSPC, and room helps (A39)', async (t, guest) => {
  const small = 64 * 1024;
  await using backing = await guest.mount({ source: 'small', type: 'tmpfs', options: `size=${small}` });
  await using fuse = await guest.mountFuse({ root: backing.path, attrValidS: 3600 });
  await using client = await guest.client();
  const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR|O_CREAT' });

  t.is(await client.pwrite({ fd, data: pattern(small + 10_000), offset: 0 }), small, 'as much as fits');
  t.is(await client.errno.pwrite({ fd, data: 'x', offset: small }), 'ENOSPC');
  t.is((await client.fstat({ fd })).size, small);
  await client.ftruncate({ fd, length: PAGE });
  t.is(await client.pwrite({ fd, data: 'fits again', offset: PAGE }), 10);
  const back = await client.pread({ fd, count: 100, offset: PAGE });
  t.is(text(back), 'fits again');
  await client.close({ fd });
  t.deepEqual(await fuse.dataRequests(), []);
});
