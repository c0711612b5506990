import { CAPABILITY, MAY_CHANGE_OWNERS, MAY_USE_RAW_SOCKETS } from '../lib/file-capabilities.ts';
import { guestTest } from '../lib/guest-test.ts';
import { fill, layersOf, over } from '../lib/layers.ts';
import { lowerOnFuse } from '../lib/overlay-on-fuse.ts';

/** What is copied up besides data and modes: the capabilities of a program, the number of a device. */

guestTest(
  'a program keeps its capabilities when its data are copied up after its metadata (E4)',
  async (t, guest) => {
    await using client = await guest.client();
    const layers = await layersOf(guest, 2);
    const [lower = '', upper = ''] = layers;
    await fill(client, lower, ['program', 'written']);
    const capability = async (path: string): Promise<string> =>
      Buffer.from(await client.getxattr({ path, name: CAPABILITY })).toString('hex');
    for (const name of ['program', 'written']) {
      await client.setxattr({ path: `${lower}/${name}`, name: CAPABILITY, data: MAY_USE_RAW_SOCKETS });
    }
    const set = await capability(`${lower}/program`);
    await using overlay = await over(guest, client, layers, 'metacopy=on,redirect_dir=on');
    for (const name of ['program', 'written']) {
      await client.chmod({ path: overlay.file(name), mode: 0o755 });
      const mark = { path: `${upper}/${name}`, name: 'trusted.overlay.metacopy' };
      t.is(await client.errno.getxattr(mark), 'ok', `${name}: metadata alone`);
      t.is(await capability(mark.path), set, `${name}: copied up with them`);
      const fd = await client.open({ path: overlay.file(name), flags: 'O_RDWR' });
      t.is(await client.errno.getxattr(mark), 'ENODATA', `${name}: the data were copied up as well`);
      t.is(await capability(mark.path), set, `${name}: which is no write to the program`);
      if (name === 'written') await client.pwrite({ fd, data: 'x', offset: 0 });
      await client.close({ fd });
    }
    t.is(await capability(overlay.file('program')), set, 'on the overlay');
    const gone = { path: overlay.file('written'), name: CAPABILITY };
    t.is(await client.errno.getxattr(gone), 'ENODATA', 'a write takes it away');
  },
);

guestTest(
  'a program whose data are copied up after its metadata has the capabilities that it has got meanwhile, or none (E4)',
  async (t, guest) => {
    await using client = await guest.client();
    const layers = await layersOf(guest, 2);
    const [lower = '', upper = ''] = layers;
    await fill(client, lower, ['changed', 'taken', 'given']);
    for (const name of ['changed', 'taken']) {
      await client.setxattr({ path: `${lower}/${name}`, name: CAPABILITY, data: MAY_USE_RAW_SOCKETS });
    }
    await using overlay = await over(guest, client, layers, 'metacopy=on,redirect_dir=on');
    const set = { name: CAPABILITY, data: MAY_CHANGE_OWNERS };
    await client.setxattr({ path: overlay.file('changed'), ...set });
    await client.setxattr({ path: overlay.file('given'), ...set });
    await client.removexattr({ path: overlay.file('taken'), name: CAPABILITY });
    for (const [name, expected] of [
      ['changed', MAY_CHANGE_OWNERS],
      ['taken', 'ENODATA'],
      ['given', MAY_CHANGE_OWNERS],
    ] as const) {
      const mark = { path: `${upper}/${name}`, name: 'trusted.overlay.metacopy' };
      t.is(await client.errno.getxattr(mark), 'ok', `${name}: metadata alone`);
      await client.close({ fd: await client.open({ path: overlay.file(name), flags: 'O_RDWR' }) });
      t.is(await client.errno.getxattr(mark), 'ENODATA', `${name}: the data were copied up as well`);
      const has = { path: `${upper}/${name}`, name: CAPABILITY };
      const errno = await client.errno.getxattr(has);
      const found = errno === 'ok' ? new Uint8Array(await client.getxattr(has)) : errno;
      t.deepEqual(found, expected, `${name}: as it was before the data came`);
    }
  },
);

guestTest(
  'a capability that is listed but is none when it is read is not copied up, one that cannot be read is an error (E4)',
  async (t, guest) => {
    await using client = await guest.client();
    await using stack = await lowerOnFuse(guest, client);
    const { overlay, fuse, upper } = stack;
    for (const errno of ['EDQUOT', 'ENODATA', 'EOPNOTSUPP', 'EINVAL']) {
      const name = errno.toLowerCase();
      const below = fuse.backing(name);
      await client.writeFile({ path: below, data: 'a program', mode: 0o755 });
      await client.setxattr({ path: below, name: CAPABILITY, data: MAY_USE_RAW_SOCKETS });
      const path = overlay.file(name);
      const change = () => client.errno.chmod({ path, mode: 0o700 });
      await client.stat({ path });
      const permit = await fuse.fail({ opcode: 'GETXATTR', path: `/${name}` }, errno);
      // Linux 6.1 takes every error for one.
      const isNone = errno !== 'EDQUOT' && guest.expected.overlaysWithDataLayers;
      t.is(await change(), isNone ? 'ok' : errno, errno);
      await permit();
      t.is(await change(), 'ok', `${errno}: later`);
      const copied = await client.errno.getxattr({ path: `${upper}/${name}`, name: CAPABILITY });
      t.is(copied, isNone ? 'ENODATA' : 'ok', `${errno}: copied`);
    }
  },
);

guestTest('a device that is copied up is the same device (E4)', async (t, guest) => {
  await using client = await guest.client();
  const layers = await layersOf(guest, 2);
  const [lower = '', upper = ''] = layers;
  const kinds = { character: 0o020_000, block: 0o060_000, fifo: 0o010_000 };
  const numbers = { character: [1, 3], block: [7, 200], fifo: [0, 0] };
  for (const name of ['character', 'block', 'fifo'] as const) {
    const [major = 0, minor = 0] = numbers[name];
    await client.mknod({ path: `${lower}/${name}`, mode: kinds[name] | 0o600, major, minor });
  }
  await using overlay = await over(guest, client, layers);
  for (const name of ['character', 'block', 'fifo'] as const) {
    await client.chown({ path: overlay.file(name), uid: 1500, gid: 1500 });
    for (const path of [`${upper}/${name}`, overlay.file(name)]) {
      const { mode, uid, rdevMajor, rdevMinor } = await client.lstat({ path });
      t.deepEqual(
        { kind: mode & 0o170_000, uid, number: [rdevMajor, rdevMinor] },
        { kind: kinds[name], uid: 1500, number: numbers[name] },
        path,
      );
    }
  }
});

guestTest(
  'a device on an overlay is the device that it is in its layer when it is opened',
  async (t, guest) => {
    await using client = await guest.client();
    const layers = await layersOf(guest, 2);
    const [lower = '', upper = ''] = layers;
    // /dev/zero and /dev/full
    for (const [at, name, minor] of [
      [lower, 'below', 5],
      [lower, 'copied', 5],
      [upper, 'above', 7],
    ] as const) {
      await client.mknod({ path: `${at}/${name}`, mode: 0o020_600, major: 1, minor });
    }
    await using overlay = await over(guest, client, layers);
    await client.chmod({ path: overlay.file('copied'), mode: 0o640 });
    for (const when of ['known already', 'looked up anew']) {
      await using again = when === 'known already' ? null : await over(guest, client, layers);
      const top = again ?? overlay;
      for (const [name, written] of [
        ['below', 'ok'],
        ['copied', 'ok'],
        ['above', 'ENOSPC'],
      ] as const) {
        const fd = await client.open({ path: top.file(name), flags: 'O_RDWR' });
        t.deepEqual(await client.pread({ fd, count: 3, offset: 0 }), new Uint8Array(3), `${when}: ${name}`);
        t.is(await client.errno.pwrite({ fd, data: 'x', offset: 0 }), written, `${when}: ${name}, written`);
        await client.close({ fd });
      }
    }
  },
);

for (const [what, options] of [
  ['links and special files are copied up (E4)', undefined],
  ['with userxattr links and special files are copied up, which cannot have its marks (E4)', 'userxattr'],
] as const) {
  guestTest(what, async (t, guest) => {
    await using client = await guest.client();
    const layers = await layersOf(guest, 2);
    const [lower = '', upper = ''] = layers;
    await client.symlink({ path: `${lower}/symlink`, target: 'nowhere' });
    await client.mknod({ path: `${lower}/fifo`, mode: 0o010_640 });
    await client.mknod({ path: `${lower}/device`, mode: 0o020_640, major: 1, minor: 3 });
    await using overlay = await over(guest, client, layers, options);
    for (const name of ['symlink', 'fifo', 'device']) {
      const { mode, rdevMajor, rdevMinor } = await client.lstat({ path: overlay.file(name) });
      const link = { from: overlay.file(name), to: overlay.file(`${name}2`) };
      t.is(await client.errno.link(link), 'ok', `${name}: another name for it copies it up`);
      const copied = await client.lstat({ path: `${upper}/${name}` });
      t.deepEqual(
        [copied.mode, copied.rdevMajor, copied.rdevMinor],
        [mode, rdevMajor, rdevMinor],
        `${name}: it is the same in the upper layer`,
      );
    }
    t.is(await client.readlink({ path: `${upper}/symlink2` }), 'nowhere');
  });
}
