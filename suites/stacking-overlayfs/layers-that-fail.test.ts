import { pattern, text } from '../lib/bytes.ts';
import { eventually } from '../lib/eventually.ts';
import { guestTest } from '../lib/guest-test.ts';
import { fill } from '../lib/layers.ts';
import { upperOnFuse } from '../lib/overlay-on-fuse.ts';
import { WITHOUT_PASSTHROUGH } from '../lib/registration.ts';
import { upperOn } from '../lib/stack.ts';
import { overlayRequest } from '../lib/stacked-mount.ts';
import { mountWritebackCache } from '../lib/writeback-cache.ts';

/** What an overlay says of layers that lost something, or cannot do something. */

const MIB = 1024 * 1024;

guestTest(
  'a volatile overlay is not mounted while nobody has been told what was lost below',
  async (t, guest) => {
    await using client = await guest.client();
    await using fuse = await mountWritebackCache(guest);
    const lower = await guest.directory('ext4', 'lower');
    const errno = async (name: string, options: string): Promise<string> => {
      for (const each of [`upper-${name}`, `work-${name}`]) await client.mkdir({ path: fuse.backing(each) });
      const layers = { lower, upper: fuse.file(`upper-${name}`), work: fuse.file(`work-${name}`), options };
      return guest.mountErrno(overlayRequest(layers), client);
    };
    t.is(await errno('before', 'volatile'), 'ok');
    const root = await client.open({ path: fuse.path, flags: 'O_RDONLY|O_DIRECTORY' });
    const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR|O_CREAT' });
    const permit = await fuse.fail('WRITE', 'ENOSPC');
    await client.write({ fd, data: 'lost' });
    t.is(await client.errno.fsync({ fd }), 'ENOSPC');
    await permit();
    t.is(await errno('lost', 'volatile'), 'EIO', 'volatile');
    t.is(await errno('other', 'index=off'), 'ok', 'not volatile');
    t.not(await client.errno.syncfs({ fd: root }), 'ok', 'who asks is told');
    t.is(await errno('told', 'volatile'), 'ok', 'volatile, later');
    for (const each of [root, fd]) await client.close({ fd: each });
  },
);

guestTest(
  'a file without a name that the upper layer refuses is the errno of the open (A4)',
  async (t, guest) => {
    guest.needs(guest.expected.overlaysWithDataLayers, 'files without a name on overlays');
    await using client = await guest.client();
    await using stack = await upperOnFuse(guest, client);
    const { overlay, fuse } = stack;
    const open = { path: overlay.path, flags: 'O_TMPFILE|O_RDWR' };
    const permit = await fuse.fail('TMPFILE', 'EDQUOT');
    t.is(await client.errno.open(open), 'EDQUOT');
    await permit();
    const fd = await client.open(open);
    await client.linkFd({ fd, to: overlay.file('named') });
    t.is(await client.errno.stat({ path: fuse.backing('upper/named') }), 'ok');
    await client.close({ fd });
  },
);

guestTest(
  'data that a layer of data alone has lost are an error of the open, and no empty file',
  async (t, guest) => {
    guest.needs(guest.expected.overlaysWithDataLayers, 'layers of data alone');
    await using client = await guest.client();
    const data = await guest.directory('ext4', 'data');
    await fill(client, data, ['d/', 'd/kept', 'd/lost']);
    const meta = await upperOn(guest);
    {
      const options = 'metacopy=on,redirect_dir=on';
      await using overlay = await guest.mountOverlay({ lower: data, ...meta, options }, client);
      for (const name of ['kept', 'lost'])
        await client.rename({ from: overlay.file(`d/${name}`), to: overlay.file(name) });
    }
    await client.unlink({ path: `${data}/d/lost` });
    // On FUSE, whose names are looked at again each time, before anybody has opened one and after.
    await using fuse = await guest.mountFuse({
      root: meta.upper,
      passthrough: 'off',
      init: WITHOUT_PASSTHROUGH,
    });
    await using overlay = await guest.mountOverlay(
      { lower: `${fuse.path}::${data}`, options: 'metacopy=on' },
      client,
    );
    for (const time of ['before', 'after']) {
      for (const name of ['kept', 'lost']) {
        t.is(
          (await client.stat({ path: overlay.file(name) })).size,
          'd/kept at the bottom'.length,
          `${name}, ${time}`,
        );
      }
      t.is(text(await client.readFile({ path: overlay.file('kept') })), 'd/kept at the bottom', time);
      t.is(await client.errno.open({ path: overlay.file('lost'), flags: 'O_RDONLY' }), 'ENOENT', time);
    }
  },
);

guestTest(
  'a whiteout that is an attribute counts at the top of a layer that says that it has some',
  async (t, guest) => {
    guest.needs(guest.expected.overlaysWithDataLayers, 'whiteouts that are attributes');
    await using client = await guest.client();
    const [top, base] = [await guest.directory('ext4', 'lower'), await guest.directory('ext4', 'lower')];
    await fill(client, base, ['hidden', 'shown']);
    await client.writeFile({ path: `${top}/hidden`, data: '' });
    await client.setxattr({ path: `${top}/hidden`, name: 'trusted.overlay.whiteout', data: 'y' });
    const names = async (): Promise<string[]> => {
      await using overlay = await guest.mountOverlay({ lower: [top, base] }, client);
      return await client.readdir({ path: overlay.path });
    };
    t.deepEqual(await names(), ['hidden', 'shown'], 'where it is not told to, a list looks for none');
    await client.setxattr({ path: top, name: 'trusted.overlay.opaque', data: 'x' });
    t.deepEqual(await names(), ['shown']);
  },
);

guestTest.alone(
  'O_DIRECT that the layer below does not have is found out by the next read',
  async (t, guest) => {
    await using client = await guest.client();
    await using lower = await guest.mountEcryptfs({ lower: await guest.directory('ext4') }, client);
    await fill(client, lower.path, ['f']);
    await using overlay = await guest.mountOverlay({ lower: lower.path, ...(await upperOn(guest)) }, client);
    const path = overlay.file('f');
    t.is(await client.errno.open({ path, flags: 'O_RDONLY|O_DIRECT' }), 'EINVAL', 'asked for by the open');
    const fd = await client.open({ path, flags: 'O_RDONLY' });
    const read = { fd, count: 4096, offset: 0 };
    t.is(text(await client.pread(read)), 'f at the bottom');
    await client.fcntl({ fd, cmd: 'F_SETFL', arg: 'O_RDONLY|O_DIRECT' });
    t.is(await client.errno.pread(read), 'EINVAL', 'asked for later');
    await client.fcntl({ fd, cmd: 'F_SETFL', arg: 'O_RDONLY' });
    t.is(text(await client.pread(read)), 'f at the bottom', 'taken back');
    await client.close({ fd });
  },
);

guestTest('numbers of 32 bits on two disks are told apart by the bits above', async (t, guest) => {
  await using disk = await guest.spareDisk('ext4');
  await using client = await guest.client();
  const lower = await disk.directory('lower');
  await fill(client, lower, ['f']);
  const layers = await upperOn(guest);
  await using overlay = await guest.mountOverlay({ lower, ...layers, options: 'xino=auto' }, client);
  const inoOf = async (path: string): Promise<bigint> => {
    return BigInt((await guest.run(['stat', '--format=%i', path])).stdout.trim());
  };
  // The upper layer is the first filesystem, the lower one the second; one bit is for numbers that do not fit.
  t.is(await inoOf(overlay.file('f')), (await inoOf(`${lower}/f`)) + (1n << 33n), 'of the lower layer');
  await client.writeFile({ path: overlay.file('g'), data: '' });
  t.is(await inoOf(overlay.file('g')), await inoOf(`${layers.upper}/g`), 'of the upper layer');
});

guestTest('a volatile overlay becomes read-only without a write to the disk below', async (t, guest) => {
  await using disk = await guest.spareDisk('xfs', { mapped: true });
  await using client = await guest.client();
  const lower = await guest.directory('ext4', 'lower');
  const layers = { upper: await disk.directory('upper'), work: await disk.directory('work') };
  await using overlay = await guest.mountOverlay({ lower, ...layers, options: 'volatile' }, client);
  await client.writeFile({ path: overlay.file('f'), data: 'in memory' });
  await disk.suspend();
  try {
    const remount = {
      source: 'overlay',
      target: overlay.path,
      type: 'overlay',
      flags: 'MS_REMOUNT|MS_RDONLY',
    };
    t.is(await client.errno.mount(remount), 'ok', 'while the disk answers nothing');
  } finally {
    await disk.resume();
  }
  t.is(await client.errno.mkdir({ path: overlay.file('d') }), 'EROFS');
});

guestTest('an overlay whose upper filesystem cannot be synced says so', async (t, guest) => {
  await using disk = await guest.spareDisk('xfs', { mapped: true });
  await using client = await guest.client();
  const lower = await guest.directory('ext4', 'lower');
  const layers = { upper: await disk.directory('upper'), work: await disk.directory('work') };
  await using overlay = await guest.mountOverlay({ lower, ...layers }, client);
  const fd = await client.open({ path: overlay.path, flags: 'O_RDONLY|O_DIRECTORY' });
  await client.writeFile({ path: overlay.file('kept'), data: 'kept' });
  t.is(await client.errno.syncfs({ fd }), 'ok', 'syncfs while the disk works');
  await client.writeFile({ path: overlay.file('lost'), data: 'lost' });
  await disk.behave('fails-writes');
  t.is(await client.errno.syncfs({ fd }), 'EIO', 'syncfs while it fails');
  const flags = 'MS_REMOUNT|MS_RDONLY';
  const remount = { source: 'overlay', target: overlay.path, type: 'overlay', flags };
  t.is(await client.errno.mount(remount), 'EIO', 'becoming read-only');
  await disk.behave('works');
  await client.close({ fd });
});

guestTest('who is killed when a part is copied up leaves no file with that part (E4)', async (t, guest) => {
  // A disk: a server below would end all that the copy-up asks it for from then on.
  await using disk = await guest.spareDisk('xfs', { mapped: true });
  await using client = await guest.client();
  await using killed = await guest.client();
  const lower = await disk.directory('lower');
  const layers = await upperOn(guest);
  const data = pattern(2 * MIB);
  const fd = await client.open({ path: `${lower}/f`, flags: 'O_RDWR|O_CREAT' });
  await client.pwrite({ fd, data, offset: 0 });
  await client.fsync({ fd });
  await using overlay = await guest.mountOverlay({ lower, ...layers }, client);
  await client.stat({ path: overlay.file('f') });
  // The first half of what is copied at once is in memory.
  await client.posix_fadvise({ fd, offset: MIB / 2, length: 0, advice: 'POSIX_FADV_DONTNEED' });
  await client.close({ fd });
  await disk.suspend();
  try {
    const copying = killed.errno.open({ path: overlay.file('f'), flags: 'O_RDWR' }).catch(() => 'gone');
    const stack = await eventually(
      () => guest.where(killed.pid),
      (where) => /filemap_splice_read|generic_file_splice_read|filemap_read/.test(where),
    );
    t.regex(stack, /ovl_copy_up/, 'it waits for the disk');
    await killed.kill('SIGKILL');
    await killed.exited();
    t.is(await copying, 'gone');
    t.deepEqual(await client.readdir({ path: layers.upper }), [], 'nothing in the upper layer');
  } finally {
    await disk.resume();
  }
  await client.close({ fd: await client.open({ path: overlay.file('f'), flags: 'O_RDWR' }) });
  t.deepEqual(await client.readFile({ path: `${layers.upper}/f` }), data, 'all of it, later');
});
