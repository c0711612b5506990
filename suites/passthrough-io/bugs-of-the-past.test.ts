import { bytes, text } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import { OpenFlag } from '../lib/fuse-abi.ts';
import { guestTest } from '../lib/guest-test.ts';
import { needsMappings } from '../lib/registration.ts';

/** Each of these went wrong once, in FUSE or in a filesystem that shares its code (suites/behaviours.json, K). */

const PAGE = 4096;
/** `fuse_release_in.release_flags` (include/uapi/linux/fuse.h). */
const RELEASE_FLOCK_UNLOCK = 2;

guestTest('an answer to COPY_FILE_RANGE larger than was asked for is EIO (K33)', async (t, guest) => {
  await using fuse = await guest.mountFuse();
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('from'), data: 'x'.repeat(1000) });
  const fdIn = await client.open({ path: fuse.file('from'), flags: 'O_RDONLY' });
  const fdOut = await client.open({ path: fuse.file('to'), flags: 'O_RDWR|O_CREAT' });
  const copy = { fdIn, offIn: 0, fdOut, offOut: 0, length: 100 };

  const takeBack = await fuse.rule({
    match: { opcode: ['COPY_FILE_RANGE', 'COPY_FILE_RANGE_64'] },
    action: { do: 'body', body: Uint8Array.from([0x10, 0x27, 0, 0, 0, 0, 0, 0]) },
  });
  t.is(await client.errno.copy_file_range(copy), 'EIO', '10000 bytes of 100');
  await takeBack();
  t.is(await client.copy_file_range(copy), 100);
  for (const fd of [fdIn, fdOut]) await client.close({ fd });
});

guestTest('a flock that the server refused is not given back at RELEASE (A44, K34)', async (t, guest) => {
  await using fuse = await guest.mountFuse({ init: { addFlags: ['FLOCK_LOCKS'] } });
  await using client = await guest.client();
  const givenBack = async (operation: string): Promise<boolean> => {
    const after = await fuse.position();
    const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR|O_CREAT' });
    await client.errno.flock({ fd, operation });
    await client.close({ fd });
    const { args } = await fuse.waitFor({ opcode: 'RELEASE', after });
    return (Number(args['release_flags']) & RELEASE_FLOCK_UNLOCK) !== 0;
  };

  const takeBack = await fuse.fail('SETLK', 'EAGAIN');
  t.false(await givenBack('LOCK_EX|LOCK_NB'), 'refused');
  await takeBack();
  t.true(await givenBack('LOCK_EX|LOCK_NB'), 'granted');
});

guestTest('a store through a mapping moves mtime (A16, K43)', async (t, guest) => {
  needsMappings(guest);
  await using fuse = await guest.mountFuse();
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'x'.repeat(PAGE) });
  const LONG_AGO_NS = 1_000_000_000_000_000_000;
  await client.utimens({ path: fuse.backing('f'), atimeNs: LONG_AGO_NS, mtimeNs: LONG_AGO_NS });
  const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
  const map = await client.mmap({ fd, length: PAGE, prot: 'PROT_READ|PROT_WRITE', flags: 'MAP_SHARED' });
  t.is((await client.fstat({ fd })).mtimeNs, LONG_AGO_NS, 'mapping alone changes nothing');

  await client.mwrite({ map, offset: 0, data: bytes('STORED') });
  await client.msync({ map, flags: 'MS_SYNC' });
  t.true((await client.fstat({ fd })).mtimeNs > LONG_AGO_NS, 'after the store');
  await client.munmap({ map });
  await client.close({ fd });
  t.deepEqual(await fuse.dataRequests(), []);
});

guestTest('mincore tells of the pages of the backing file (A34)', async (t, guest) => {
  needsMappings(guest);
  await using fuse = await guest.mountFuse({ root: 'tmpfs' });
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'x'.repeat(2 * PAGE) });
  await client.truncate({ path: fuse.backing('f'), length: 4 * PAGE });
  const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
  const map = await client.mmap({ fd, length: 4 * PAGE, prot: 'PROT_READ', flags: 'MAP_SHARED' });

  // Nobody has read through FUSE: what is there is there because of the backing file. The rest is a hole.
  t.deepEqual([...(await client.mincore({ map }))], [1, 1, 0, 0]);
  await client.munmap({ map });
  await client.close({ fd });
  t.deepEqual(await fuse.dataRequests(), []);
});

/** What makes a file longer. */
const GROWTHS: Readonly<Record<string, (client: Client, fd: number) => Promise<unknown>>> = {
  write: (client, fd) => client.pwrite({ fd, data: 'y', offset: 2000 }),
  ftruncate: (client, fd) => client.ftruncate({ fd, length: 2001 }),
  fallocate: (client, fd) => client.fallocate({ fd, offset: 0, length: 2001 }),
};

/** A store into the last page from the end on, then the file grows: what lies between, and is it zeros? */
async function betweenOldEndAndNew(
  client: Client,
  path: string,
  grow: (client: Client, fd: number) => Promise<unknown>,
): Promise<boolean> {
  const fd = await client.open({ path, flags: 'O_RDWR|O_CREAT' });
  await client.write({ fd, data: 'x'.repeat(100) });
  const map = await client.mmap({ fd, length: PAGE, prot: 'PROT_READ|PROT_WRITE', flags: 'MAP_SHARED' });
  await client.mwrite({ map, offset: 100, data: bytes('BEYOND'.repeat(300)) });
  await grow(client, fd);
  const between = await client.pread({ fd, count: 1900, offset: 100 });
  await client.munmap({ map });
  await client.close({ fd });
  return between.every((byte) => byte === 0);
}

guestTest(
  'what was stored beyond the end shows or not when the file grows, as natively (A17)',
  async (t, guest) => {
    needsMappings(guest);
    for (const root of ['ext4', 'tmpfs'] as const) {
      await using fuse = await guest.mountFuse({ root });
      await using client = await guest.client();
      for (const [what, grow] of Object.entries(GROWTHS)) {
        const native = await betweenOldEndAndNew(client, fuse.backing(`native-${what}`), grow);
        t.is(await betweenOldEndAndNew(client, fuse.file(what), grow), native, `${root}, ${what}: zeros`);
      }
      t.deepEqual(await fuse.dataRequests(), []);
    }
  },
);

guestTest(
  'without passthrough: what was stored beyond the end does not show when the file grows (K52)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse({ passthrough: 'off' });
    await using client = await guest.client();
    for (const [what, grow] of Object.entries(GROWTHS)) {
      t.true(await betweenOldEndAndNew(client, fuse.file(what), grow), `${what}: zeros`);
    }
  },
);

guestTest('a splice that fails leaves the position where it was (A21, K48)', async (t, guest) => {
  await using fuse = await guest.mountFuse();
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'x'.repeat(100) });
  const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
  const [readEnd, writeEnd] = await client.pipe({});
  await client.fcntl({ fd: writeEnd, cmd: 'F_SETPIPE_SZ', arg: PAGE });
  await client.write({ fd: writeEnd, data: 'z'.repeat(PAGE) });
  await client.lseek({ fd, offset: 10, whence: 'SEEK_SET' });

  const full = { fdIn: fd, fdOut: writeEnd, length: 50, flags: 'SPLICE_F_NONBLOCK' };
  t.is(await client.errno.splice(full), 'EAGAIN', 'the pipe is full');
  t.is(await client.lseek({ fd, offset: 0, whence: 'SEEK_CUR' }), 10);
  await client.read({ fd: readEnd, count: PAGE });
  t.is(await client.splice(full), 50);
  t.is(await client.lseek({ fd, offset: 0, whence: 'SEEK_CUR' }), 60);
  await client.close({ fd });
  t.deepEqual(await fuse.dataRequests(), []);
});

guestTest(
  'an answer to GETATTR from before a write does not take the size back (A41, K45)',
  async (t, guest) => {
    guest.needs(guest.expected.removesPrivileges, 'size of its own after a write: the server is asked');
    await using fuse = await guest.mountFuse({ attrValidS: 3600 });
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'x'.repeat(10) });
    const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
    // After a read the times are asked for, and the question is kept back.
    await client.pread({ fd, count: 1, offset: 0 });
    const hold = await fuse.hold('GETATTR');
    const late = client.fstat({ fd });
    const asked = await hold.arrived();
    await hold.stop();

    await client.pwrite({ fd, data: 'y'.repeat(1000), offset: 10 });
    // `fuse_attr_out`: two words of validity, then the inode number and the size.
    const old = new Uint8Array(new BigUint64Array([10n]).buffer);
    await hold.release(asked, { do: 'patch', at: 24, bytes: old });
    await late;
    t.is((await client.fstat({ fd })).size, 1010);
    t.is(await client.lseek({ fd, offset: 0, whence: 'SEEK_END' }), 1010);
    await client.close({ fd });
    t.deepEqual(await fuse.dataRequests(), []);
  },
);

for (const how of ['O_DIRECT', 'FOPEN_DIRECT_IO'] as const) {
  guestTest(
    `without passthrough: a cached read sees what ${how} has written (K31, K50)`,
    async (t, guest) => {
      await using fuse = await guest.mountFuse({ passthrough: 'off' });
      await using client = await guest.client();
      await client.writeFile({ path: fuse.backing('f'), data: 'x'.repeat(2 * PAGE) });
      const cached = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
      t.is(text(await client.pread({ fd: cached, count: 1, offset: 0 })), 'x');
      if (how === 'FOPEN_DIRECT_IO') await fuse.answerOpen('OPEN', { openFlags: OpenFlag.DIRECT_IO }, 1);
      const flags = how === 'O_DIRECT' ? 'O_RDWR|O_DIRECT' : 'O_RDWR';
      const direct = await client.open({ path: fuse.file('f'), flags });

      await client.pwrite({ fd: direct, data: 'y'.repeat(PAGE), offset: 0 });
      t.is(text(await client.pread({ fd: cached, count: 1, offset: 0 })), 'y');
      await client.pwrite({ fd: cached, data: 'z', offset: 0 });
      t.is(text(await client.pread({ fd: direct, count: PAGE, offset: 0 })).slice(0, 2), 'zy');
      for (const fd of [cached, direct]) await client.close({ fd });
    },
  );
}
