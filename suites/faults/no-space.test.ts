import { firstDifference, pattern } from '../lib/bytes.ts';
import { guestTest } from '../lib/guest-test.ts';
import { needsMappings } from '../lib/registration.ts';

const PAGE = 4096;
const MIB = 1024 * 1024;

guestTest('a full filesystem is ENOSPC however a passthrough file is written (A39)', async (t, guest) => {
  await using disk = await guest.spareDisk('ext4', { mkfs: ['-m', '0', '-b', '4096', '-O', '^has_journal'] });
  await using fuse = await guest.mountFuse({ root: await disk.directory() });
  await using client = await guest.client();
  const data = pattern(PAGE);
  const names = ['buffered', 'direct', 'allocated'];
  for (const name of names) await client.writeFile({ path: fuse.backing(name), data });
  const flags = { buffered: 'O_RDWR', direct: 'O_RDWR|O_DIRECT', allocated: 'O_RDWR' } as const;
  const open = async (name: keyof typeof flags): Promise<number> => {
    return client.open({ path: fuse.file(name), flags: flags[name] });
  };
  const [buffered, direct, allocated] = [
    await open('buffered'),
    await open('direct'),
    await open('allocated'),
  ];
  const filler = await client.open({ path: disk.file('filler'), flags: 'O_RDWR|O_CREAT' });
  for (const length of [64 * MIB, MIB, PAGE]) {
    let { size } = await client.fstat({ fd: filler });
    while ((await client.errno.fallocate({ fd: filler, offset: size, length })) === 'ok') size += length;
  }

  t.is(await client.errno.pwrite({ fd: buffered, data, offset: 64 * PAGE }), 'ENOSPC', 'buffered');
  t.is(await client.errno.pwrite({ fd: direct, data, offset: 64 * PAGE }), 'ENOSPC', 'direct');
  t.is(await client.errno.fallocate({ fd: allocated, offset: PAGE, length: PAGE }), 'ENOSPC', 'fallocate');
  t.is(await client.pwrite({ fd: buffered, data: pattern(PAGE, 2), offset: 0 }), PAGE, 'room that is there');
  await client.ftruncate({ fd: filler, length: 0 });
  // Freed blocks come back with the next write-back.
  await client.syncfs({ fd: filler });
  t.is(await client.pwrite({ fd: buffered, data, offset: 64 * PAGE }), PAGE, 'room that came back');
  const back = await client.pread({ fd: buffered, count: PAGE, offset: 64 * PAGE });
  t.is(firstDifference(back, data), undefined);
  for (const fd of [buffered, direct, allocated, filler]) await client.close({ fd });
  t.deepEqual(await fuse.dataRequests(), []);
});

guestTest('a store into a hole of a full filesystem is a bus error (A17, A39)', async (t, guest) => {
  needsMappings(guest);
  await using disk = await guest.spareDisk('ext4', { mkfs: ['-m', '0', '-b', '4096', '-O', '^has_journal'] });
  await using fuse = await guest.mountFuse({ root: await disk.directory() });
  await using client = await guest.client();
  await using victim = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: '' });
  await client.truncate({ path: fuse.backing('f'), length: PAGE });
  const fd = await victim.open({ path: fuse.file('f'), flags: 'O_RDWR' });
  const map = await victim.mmap({ fd, length: PAGE, prot: 'PROT_READ|PROT_WRITE', flags: 'MAP_SHARED' });
  const filler = await client.open({ path: disk.file('filler'), flags: 'O_RDWR|O_CREAT' });
  for (const length of [64 * MIB, MIB, PAGE]) {
    let { size } = await client.fstat({ fd: filler });
    while ((await client.errno.fallocate({ fd: filler, offset: size, length })) === 'ok') size += length;
  }
  await victim.mwrite({ map, offset: 0, data: pattern(8) }).catch(() => undefined);
  t.is((await victim.exited()).signal, 'SIGBUS');
  await client.close({ fd: filler });
});

guestTest(
  'a project quota is EDQUOT or ENOSPC as without FUSE, for whom it is set (A39, F10)',
  async (t, guest) => {
    await using disk = await guest.spareDisk('xfs', { options: 'prjquota' });
    const root = await disk.directory('limited');
    await using fuse = await guest.mountFuse({ root });
    await using client = await guest.client();
    const quota = ['-c', `project -s -p ${root} 7`, '-c', `limit -p bhard=${2 * MIB} 7`];
    await guest.run(['xfs_quota', '-x', ...quota, disk.path]);
    const outcome = async (path: string): Promise<string[]> => {
      const fd = await client.open({ path, flags: 'O_RDWR|O_CREAT' });
      const results: string[] = [];
      for (let at = 0; at < 4; at++) {
        results.push(await client.errno.pwrite({ fd, data: pattern(MIB), offset: at * MIB }));
      }
      await client.close({ fd });
      await client.unlink({ path });
      return results;
    };
    const native = await outcome(fuse.backing('n'));
    const through = await outcome(fuse.file('t'));
    t.true(
      native.some((errno) => errno === 'ENOSPC' || errno === 'EDQUOT'),
      native.join(' '),
    );
    t.deepEqual(through, native, 'as without FUSE');
    t.is(
      await client.errno.writeFile({ path: `${disk.path}/other`, data: pattern(4 * MIB) }),
      'ok',
      'elsewhere',
    );
    t.deepEqual(await fuse.dataRequests(), []);
  },
);
