import { pattern, text } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';

const SECTOR = 512;

/** Bytes that the disk below a file has been given since it was attached. */
async function bytesOnDisk(guest: TestGuest, client: Client, path: string): Promise<number> {
  const { devMajor, devMinor } = await client.stat({ path });
  const stat = `/sys/dev/block/${devMajor}:${devMinor}/stat`;
  if ((await client.errno.access({ path: stat, mode: 'F_OK' })) !== 'ok') {
    guest.skip('the backing filesystem has no disk of its own on this machine');
  }
  // Documentation/block/stat.rst: the seventh number is sectors written.
  const fields = text(await client.readFile({ path: stat }))
    .trim()
    .split(/\s+/);
  return Number(fields[6]) * SECTOR;
}

guestTest('fsync and fdatasync reach the server and say what it says (A31)', async (t, guest) => {
  await using fuse = await guest.mountFuse();
  await using client = await guest.client();
  const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR|O_CREAT' });
  await client.write({ fd, data: 'x' });

  t.is(await client.errno.fsync({ fd }), 'ok');
  t.is(await client.errno.fdatasync({ fd }), 'ok');
  const flags = (await fuse.requests('FSYNC')).map(({ args }) => args['fsync_flags']);
  t.deepEqual(flags, [0, 1], 'FUSE_FSYNC_FDATASYNC is bit 0');
  await fuse.fail('FSYNC', 'EDQUOT', 1);
  t.is(await client.errno.fsync({ fd }), 'EDQUOT');
  await client.close({ fd });
  t.deepEqual(await fuse.dataRequests(), []);
});

guestTest('fsync puts what went past the server on the disk (A31)', async (t, guest) => {
  await using fuse = await guest.mountFuse();
  await using client = await guest.client();
  const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR|O_CREAT' });
  const data = pattern(256 * 1024);

  const before = await bytesOnDisk(guest, client, fuse.backing('f'));
  await client.pwrite({ fd, data, offset: 0 });
  await client.fsync({ fd });
  t.true((await bytesOnDisk(guest, client, fuse.backing('f'))) - before >= data.length);
  await client.close({ fd });
  t.deepEqual(await fuse.dataRequests(), []);
});

guestTest('a write on O_DSYNC or with RWF_DSYNC is on the disk when it returns (A31)', async (t, guest) => {
  await using fuse = await guest.mountFuse();
  await using client = await guest.client();
  const data = pattern(128 * 1024);
  const ways = [
    { name: 'O_DSYNC', flags: 'O_RDWR|O_CREAT|O_DSYNC', rwf: '' },
    { name: 'O_SYNC', flags: 'O_RDWR|O_CREAT|O_SYNC', rwf: '' },
    { name: 'RWF_DSYNC', flags: 'O_RDWR|O_CREAT', rwf: 'RWF_DSYNC' },
    { name: 'RWF_SYNC', flags: 'O_RDWR|O_CREAT', rwf: 'RWF_SYNC' },
  ];
  for (const { name, flags, rwf } of ways) {
    const fd = await client.open({ path: fuse.file(name), flags });
    const before = await bytesOnDisk(guest, client, fuse.backing(name));
    t.is(await client.pwritev2({ fd, chunks: [data], offset: 0, flags: rwf }), data.length);
    const after = await bytesOnDisk(guest, client, fuse.backing(name));
    t.true(after - before >= data.length, `${name}: ${after - before} bytes`);
    await client.close({ fd });
  }
  t.deepEqual(await fuse.dataRequests(), []);
});

guestTest(
  'fsync that the server does not know is no error, and is not asked again (A31)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse();
    await using client = await guest.client();
    await fuse.fail('FSYNC', 'ENOSYS');
    const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR|O_CREAT' });
    await client.write({ fd, data: 'x' });

    t.is(await client.errno.fsync({ fd }), 'ok');
    t.is(await client.errno.fsync({ fd }), 'ok');
    t.is(await client.errno.fdatasync({ fd }), 'ok');
    t.is((await fuse.requests('FSYNC')).length, 1);
    await client.close({ fd });
    t.deepEqual(await fuse.dataRequests(), []);
  },
);
