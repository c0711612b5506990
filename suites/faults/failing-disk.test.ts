import { pattern, text } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import { guestTest } from '../lib/guest-test.ts';
import { needsMappings } from '../lib/registration.ts';

const PAGE = 4096;

/** The writable side of an overlay, in a directory on the disk. */
async function upperIn(client: Client, root: string): Promise<{ upper: string; work: string }> {
  const made = { upper: `${root}/upper`, work: `${root}/work` };
  for (const path of Object.values(made)) await client.mkdir({ path });
  return made;
}

guestTest(
  'an error of the disk is EIO for read, write and fsync of a passthrough file (A39, H7)',
  async (t, guest) => {
    await using disk = await guest.spareDisk('xfs', { mapped: true });
    await using fuse = await guest.mountFuse({ root: await disk.directory() });
    await using client = await guest.client();
    const data = pattern(4 * PAGE);
    await client.writeFile({ path: fuse.backing('f'), data });
    const direct = await client.open({ path: fuse.file('f'), flags: 'O_RDWR|O_DIRECT' });
    const buffered = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
    const native = await client.open({ path: fuse.backing('f'), flags: 'O_RDWR|O_DIRECT' });
    await client.fsync({ fd: native });
    await client.posix_fadvise({ fd: native, offset: 0, length: 0, advice: 'POSIX_FADV_DONTNEED' });
    const reads = guest.expected.heedsDirect ? [direct, buffered] : [buffered];
    await disk.behave('fails');

    for (const fd of [native, ...reads]) {
      t.is(await client.errno.pread({ fd, count: PAGE, offset: 2 * PAGE }), 'EIO', 'read');
    }
    const block = data.subarray(0, PAGE);
    t.is(await client.errno.pwrite({ fd: native, data: block, offset: 0 }), 'EIO', 'native direct write');
    if (guest.expected.heedsDirect) {
      t.is(await client.errno.pwrite({ fd: direct, data: block, offset: 0 }), 'EIO', 'direct write');
    }
    t.is(await client.pwrite({ fd: buffered, data: block, offset: PAGE }), PAGE, 'to the page cache');
    t.is(await client.errno.fsync({ fd: buffered }), 'EIO', 'fsync');
    t.is(await client.errno.fsync({ fd: native }), 'EIO', 'fsync below FUSE');
    await disk.behave('works');
    for (const fd of [direct, buffered, native]) await client.errno.close({ fd });
    t.deepEqual(await fuse.dataRequests(), []);
  },
);

guestTest(
  'a page that cannot be read is a bus error, through FUSE as below it (A17, H7)',
  async (t, guest) => {
    needsMappings(guest);
    await using disk = await guest.spareDisk('xfs', { mapped: true });
    await using fuse = await guest.mountFuse({ root: await disk.directory() });
    await using keeper = await guest.client();
    await keeper.writeFile({ path: fuse.backing('f'), data: pattern(4 * PAGE) });
    const kept = await keeper.open({ path: fuse.backing('f'), flags: 'O_RDWR' });
    await keeper.fsync({ fd: kept });
    for (const path of [fuse.file('f'), fuse.backing('f')]) {
      await using victim = await guest.client();
      const fd = await victim.open({ path, flags: 'O_RDONLY' });
      const map = await victim.mmap({ fd, length: 4 * PAGE, prot: 'PROT_READ', flags: 'MAP_SHARED' });
      await keeper.posix_fadvise({ fd: kept, offset: 0, length: 0, advice: 'POSIX_FADV_DONTNEED' });
      await disk.behave('fails');
      await victim.mread({ map, offset: 0, length: 1 }).catch(() => undefined);
      const ended = await victim.exited();
      await disk.behave('works');
      t.is(ended.signal, 'SIGBUS', path === fuse.file('f') ? 'through FUSE' : 'below it');
    }
    await keeper.close({ fd: kept });
    t.deepEqual(await fuse.dataRequests(), []);
  },
);

guestTest('a write-back that failed is told to each descriptor by fdatasync (H7)', async (t, guest) => {
  await using disk = await guest.spareDisk('xfs', { mapped: true });
  await using fuse = await guest.mountFuse({ root: await disk.directory() });
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: pattern(4 * PAGE) });
  const native = await client.open({ path: fuse.backing('f'), flags: 'O_RDWR' });
  await client.fsync({ fd: native });
  const one = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
  const other = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
  await disk.behave('fails-writes');
  await client.pwrite({ fd: one, data: pattern(PAGE, 2), offset: 0 });
  t.is(await client.errno.fdatasync({ fd: one }), 'EIO', 'the first descriptor');
  t.is(await client.errno.fdatasync({ fd: other }), 'EIO', 'the second descriptor');
  t.is(await client.errno.fdatasync({ fd: native }), 'EIO', 'one below FUSE');
  await disk.behave('works');
  for (const fd of [one, other, native]) await client.close({ fd });
  t.deepEqual(await fuse.dataRequests(), []);
});

guestTest(
  'syncfs of a FUSE mount asks no server and writes nothing below, syncfs below does (A31, E19)',
  async (t, guest) => {
    await using disk = await guest.spareDisk('xfs', { mapped: true });
    await using fuse = await guest.mountFuse({ root: await disk.directory() });
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: pattern(PAGE) });
    const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
    const native = await client.open({ path: fuse.backing('f'), flags: 'O_RDWR' });
    await client.fsync({ fd: native });
    await client.pwrite({ fd, data: pattern(PAGE, 2), offset: 0 });
    await disk.behave('fails-writes');
    t.is(await client.errno.syncfs({ fd }), 'ok', 'through FUSE nothing is written that could fail');
    t.deepEqual(await fuse.opcodes({ opcode: ['SYNCFS', 'FSYNC'] }), [], 'the server is not asked');
    t.is(await client.errno.syncfs({ fd: native }), 'EIO', 'below it the page is written, and fails');
    await disk.behave('works');
    for (const each of [fd, native]) await client.errno.close({ fd: each });
    t.deepEqual(await fuse.dataRequests(), []);
  },
);

guestTest(
  'after a power failure what was fsynced is there, and what was not may be gone (A32)',
  async (t, guest) => {
    await using disk = await guest.spareDisk('xfs', { mapped: true });
    await using client = await guest.client();
    const root = await disk.directory();
    const [old, synced, lost] = [pattern(PAGE, 1), pattern(PAGE, 2), pattern(PAGE, 3)];
    {
      await using fuse = await guest.mountFuse({ root });
      await client.writeFile({ path: fuse.file('f'), data: old });
      await client.writeFile({ path: fuse.file('never-synced'), data: old });
      const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
      const unknown = await client.open({ path: fuse.file('never-synced'), flags: 'O_RDWR' });
      for (const each of [fd, unknown]) await client.fsync({ fd: each });
      await client.pwrite({ fd, data: synced, offset: PAGE });
      await client.fsync({ fd });
      // A server that does not know FSYNC makes it a success that does nothing.
      await fuse.fail('FSYNC', 'ENOSYS');
      await client.pwrite({ fd: unknown, data: lost, offset: 0 });
      t.is(await client.errno.fsync({ fd: unknown }), 'ok');
      await client.pwrite({ fd, data: lost, offset: 0 });
      await disk.behave('drops-writes');
      for (const each of [fd, unknown]) await client.close({ fd: each });
      t.deepEqual(await fuse.dataRequests(), []);
    }
    t.is(await disk.unmount(), 'ok');
    await disk.behave('works');
    await disk.mount();
    const found = await client.readFile({ path: `${root}/f` });
    t.deepEqual(found.subarray(PAGE), synced, 'what was fsynced');
    t.deepEqual(found.subarray(0, PAGE), old, 'what was written after it never got to the disk');
    const unsynced = await client.readFile({ path: `${root}/never-synced` });
    t.deepEqual(unsynced, old, 'fsync by a server that answers ENOSYS writes nothing');
  },
);

guestTest('a filesystem shut down below is EIO for open files and for new ones (H7)', async (t, guest) => {
  await using disk = await guest.spareDisk('xfs');
  await using fuse = await guest.mountFuse({ root: await disk.directory() });
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'there' });
  const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
  t.is(text(await client.pread({ fd, count: 5, offset: 0 })), 'there');
  await guest.run(['xfs_io', '-x', '-c', 'shutdown', disk.path]);

  t.is(await client.errno.pread({ fd, count: 5, offset: 0 }), 'EIO', 'read');
  t.is(await client.errno.pwrite({ fd, data: 'gone?', offset: 0 }), 'EIO', 'write');
  t.is(await client.errno.fsync({ fd }), 'EIO', 'fsync');
  t.is(await client.errno.fstat({ fd }), 'EIO', 'fstat, which the server answers');
  await client.errno.close({ fd });
  t.is(await fuse.waitFor('RELEASE').then(({ opcode }) => opcode), 'RELEASE');
});

guestTest(
  'after a power failure what syncfs of an overlay brought to its upper layer is there (A32, E19)',
  async (t, guest) => {
    await using disk = await guest.spareDisk('xfs', { mapped: true });
    await using client = await guest.client();
    const root = await disk.directory();
    const lower = await guest.directory('ext4', 'lower');
    await client.writeFile({ path: `${lower}/f`, data: 'from below' });
    const [synced, lost] = [pattern(PAGE, 2), pattern(PAGE, 3)];
    {
      await using overlay = await guest.mountOverlay({ lower, ...(await upperIn(client, root)) }, client);
      await client.writeFile({ path: overlay.file('f'), data: synced, flags: 'O_WRONLY|O_TRUNC' });
      const directory = await client.open({ path: overlay.path, flags: 'O_RDONLY|O_DIRECTORY' });
      await client.syncfs({ fd: directory });
      await client.close({ fd: directory });
      await disk.behave('drops-writes');
      await client.writeFile({ path: overlay.file('f'), data: lost, flags: 'O_WRONLY' });
    }
    t.is(await disk.unmount(), 'ok');
    await disk.behave('works');
    await disk.mount();
    t.deepEqual(await client.readFile({ path: `${root}/upper/f` }), synced);
  },
);

guestTest(
  'a volatile overlay writes nothing when it is asked to, and fails when its upper filesystem has (E19)',
  async (t, guest) => {
    await using disk = await guest.spareDisk('xfs', { mapped: true });
    await using client = await guest.client();
    const root = await disk.directory();
    const lower = await guest.directory('ext4', 'lower');
    const layers = { lower, ...(await upperIn(client, root)) };
    await using overlay = await guest.mountOverlay({ ...layers, options: 'volatile' }, client);
    const fd = await client.open({ path: overlay.file('f'), flags: 'O_RDWR|O_CREAT' });
    const native = await client.open({ path: `${root}/upper/f`, flags: 'O_RDWR' });
    await client.fsync({ fd: native });
    await disk.behave('fails-writes');
    await client.pwrite({ fd, data: pattern(PAGE), offset: 0 });
    t.is(await client.errno.fsync({ fd }), 'ok', 'fsync');
    t.is(await client.errno.fdatasync({ fd }), 'ok', 'fdatasync');
    t.is(await client.errno.syncfs({ fd }), 'ok', 'syncfs');
    t.is(await client.errno.fsync({ fd: native }), 'EIO', 'the page was not on its way yet');
    t.is(await client.errno.fsync({ fd }), 'EIO', 'fsync, after the upper filesystem has lost a page');
    t.is(await client.errno.syncfs({ fd }), 'EIO', 'syncfs, too');
    await disk.behave('works');
    for (const each of [fd, native]) await client.errno.close({ fd: each });
  },
);
