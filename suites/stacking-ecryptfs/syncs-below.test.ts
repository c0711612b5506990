import { bytes, pattern } from '../lib/bytes.ts';
import { ecryptfsOnFuse } from '../lib/ecryptfs-on-fuse.ts';
import { guestTest } from '../lib/guest-test.ts';
import { WITHOUT_PASSTHROUGH } from '../lib/registration.ts';
import { ecryptfsRequest } from '../lib/stacked-mount.ts';
import { mountWritebackCache } from '../lib/writeback-cache.ts';
import { writesAndSyncs } from '../lib/writes-and-syncs.ts';

/** What has to be below for good when a call on ecryptfs is over. */

const PAGE = 4096;
const HEADER_BYTES = 2 * PAGE;
/** FUSE_FSYNC_FDATASYNC of linux/fuse.h. */
const DATASYNC = 1;

guestTest('fsync of a directory on ecryptfs is one of the directory below', async (t, guest) => {
  await using client = await guest.client();
  await using stack = await ecryptfsOnFuse(guest, client);
  const { ecryptfs, fuse } = stack;
  await client.mkdir({ path: ecryptfs.file('d') });
  const fd = await client.open({ path: ecryptfs.file('d'), flags: 'O_RDONLY|O_DIRECTORY' });
  for (const [call, datasync] of [
    ['fsync', 0],
    ['fdatasync', DATASYNC],
  ] as const) {
    const after = await fuse.position();
    t.is(await client.errno[call]({ fd }), 'ok', call);
    const asked = await fuse.requests({ opcode: 'FSYNCDIR', path: '/d', after });
    t.deepEqual(
      asked.map(({ args }) => Number(args['fsync_flags']) & DATASYNC),
      [datasync],
      call,
    );
    const allow = await fuse.fail('FSYNCDIR', 'EIO');
    t.is(await client.errno[call]({ fd }), 'EIO', `${call} that fails below`);
    await allow();
  }
  await client.close({ fd });
});

guestTest(
  'a page that ecryptfs could not write below is told to each who has the file open',
  async (t, guest) => {
    await using client = await guest.client();
    await using stack = await ecryptfsOnFuse(guest, client);
    const { ecryptfs, fuse } = stack;
    const path = ecryptfs.file('f');
    await client.writeFile({ path, data: pattern(PAGE) });
    const [fd, other] = [
      await client.open({ path, flags: 'O_RDWR' }),
      await client.open({ path, flags: 'O_RDONLY' }),
    ];
    const map = await client.mmap({ fd, length: PAGE, prot: 'PROT_READ|PROT_WRITE', flags: 'MAP_SHARED' });
    const allow = await fuse.fail('WRITE', 'ENOSPC');
    await client.mwrite({ map, offset: 100, data: bytes('stored') });
    t.is(await client.errno.fsync({ fd }), 'ENOSPC', 'who asks first');
    await allow();
    t.is(await client.errno.fsync({ fd: other }), 'ENOSPC', 'who asks then');
    for (const each of [fd, other]) t.is(await client.errno.fsync({ fd: each }), 'ok', 'told once');
    await client.munmap({ map });
    for (const each of [fd, other]) await client.close({ fd: each });
  },
);

guestTest(
  'what is written with O_DSYNC on ecryptfs is written below as a whole before the lower file is synced',
  async (t, guest) => {
    await using client = await guest.client();
    await using fuse = await mountWritebackCache(guest);
    await using ecryptfs = await guest.mountEcryptfs({ lower: fuse.path }, client);
    const fd = await client.open({ path: ecryptfs.file('f'), flags: 'O_RDWR|O_CREAT|O_DSYNC' });
    await client.fsync({ fd });
    const after = await fuse.position();
    await client.pwrite({ fd, data: pattern(PAGE), offset: 0 });
    const all = await fuse.requests({ opcode: ['WRITE', 'FSYNC'], after });
    t.is(all.at(-1)?.opcode, 'FSYNC', 'synced when all is written');
    const written = (from: number, to: number) =>
      all.some(({ opcode, args }) => {
        const offset = Number(args['offset']);
        return opcode === 'WRITE' && offset <= from && offset + Number(args['size']) >= to;
      });
    t.true(written(0, 8), 'the size in the header');
    t.true(written(HEADER_BYTES, HEADER_BYTES + PAGE), 'the page behind the header');
    await client.close({ fd });
  },
);

guestTest(
  'a mount of ecryptfs with MS_SYNCHRONOUS syncs the lower file with every write',
  async (t, guest) => {
    await using client = await guest.client();
    await using fuse = await guest.mountFuse({ passthrough: 'off', init: WITHOUT_PASSTHROUGH });
    const request = ecryptfsRequest(fuse.path, await guest.ecryptfsKey());
    for (const [flags, synced] of [
      ['', []],
      ['MS_SYNCHRONOUS', ['FDATASYNC']],
    ] as const) {
      await using ecryptfs = await guest.mount({ ...request, flags }, client);
      const fd = await client.open({ path: ecryptfs.file('f'), flags: 'O_RDWR|O_CREAT' });
      const sent = await writesAndSyncs(fuse, () => client.pwrite({ fd, data: bytes('x'), offset: 0 }));
      const how = flags === '' ? 'as mounts are' : flags;
      t.deepEqual(sent, ['WRITE', 'WRITE', ...synced], `${how}: the page, the size, and what comes then`);
      await client.close({ fd });
    }
  },
);
