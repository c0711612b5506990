import { aclFor } from '../lib/access-control-list.ts';
import { text } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import { guestTest } from '../lib/guest-test.ts';
import { fill, layersOf, over } from '../lib/layers.ts';
import { upperOn } from '../lib/stack.ts';

/** What a lower file may be like to be copied up when it is opened for writing. */

/** More than the kernel opens without O_LARGEFILE. Bytes. */
const LARGE = 3 * 2 ** 30;

guestTest('a file of more than 2 GiB is copied up with what stands behind them', async (t, guest) => {
  await using client = await guest.client();
  const lower = await guest.directory('ext4', 'lower');
  const layers = await upperOn(guest);
  const made = await client.open({ path: `${lower}/f`, flags: 'O_RDWR|O_CREAT' });
  for (const [data, offset] of [
    ['beginning', 0],
    ['end', LARGE],
  ] as const)
    await client.pwrite({ fd: made, data, offset });
  await client.close({ fd: made });

  await using overlay = await guest.mountOverlay({ lower, ...layers }, client);
  const fd = await client.open({ path: overlay.file('f'), flags: 'O_RDWR' });
  await client.pwrite({ fd, data: 'B', offset: 0 });
  await client.close({ fd });
  const path = `${layers.upper}/f`;
  t.is((await client.stat({ path })).size, LARGE + 3);
  const upper = await client.open({ path, flags: 'O_RDONLY' });
  t.is(text(await client.pread({ fd: upper, count: 9, offset: 0 })), 'Beginning');
  t.is(text(await client.pread({ fd: upper, count: 9, offset: LARGE })), 'end');
  await client.close({ fd: upper });
});

guestTest('data of more than 2 GiB are copied up after the metadata (E4)', async (t, guest) => {
  await using client = await guest.client();
  const lower = await guest.directory('ext4', 'lower');
  const layers = await upperOn(guest);
  await client.writeFile({ path: `${lower}/f`, data: 'beginning' });
  await client.truncate({ path: `${lower}/f`, length: LARGE });
  const options = 'metacopy=on,redirect_dir=on';
  await using overlay = await guest.mountOverlay({ lower, ...layers, options }, client);
  const path = overlay.file('f');
  await client.chmod({ path, mode: 0o640 });
  t.is(await client.errno.open({ path, flags: 'O_RDWR' }), 'ok', 'an open for writing');
  const fd = await client.open({ path: `${layers.upper}/f`, flags: 'O_RDONLY' });
  t.is(text(await client.pread({ fd, count: 9, offset: 0 })), 'beginning', 'in the upper layer');
  t.is((await client.fstat({ fd })).size, LARGE);
  await client.close({ fd });
});

guestTest(
  'a directory of several lower layers is as the uppermost has it, and so is its copy',
  async (t, guest) => {
    await using client = await guest.client();
    const layers = await layersOf(guest, 4);
    const upper = layers.pop() ?? '';
    for (const [at, layer] of layers.entries()) {
      await fill(client, layer, ['d/', `d/of-${at}`]);
      await client.chown({ path: `${layer}/d`, uid: 1500 + at, gid: 1600 + at });
      await client.chmod({ path: `${layer}/d`, mode: 0o700 + at });
      await client.setxattr({ path: `${layer}/d`, name: 'trusted.word', data: `of ${at}` });
      await client.utimens({ path: `${layer}/d`, atimeNs: 1e18 + at * 1e9, mtimeNs: 1e18 + at * 1e9 });
    }
    await using overlay = await over(guest, client, [...layers, upper]);
    await using stranger = await guest.client();
    await stranger.chdir({ path: overlay.path });
    await stranger.setCredentials({ uid: 4000, gid: 4000 });
    t.is(await stranger.errno.access({ path: 'd', mode: 'W_OK' }), 'ok', 'the mode that it has there counts');
    t.is(await stranger.errno.access({ path: 'd', mode: 'R_OK' }), 'EACCES', 'and no other');
    await client.utimens({ path: overlay.file('d/of-0'), atimeNs: 'now', mtimeNs: 'now' });
    for (const path of [`${upper}/d`, overlay.file('d')]) {
      const { mode, uid, gid, mtimeNs } = await client.stat({ path });
      const uppermost = { mode: 0o040_702, uid: 1502, gid: 1602, mtimeNs: 1e18 + 2e9 };
      t.deepEqual({ mode, uid, gid, mtimeNs }, uppermost, path);
      t.is(text(await client.getxattr({ path, name: 'trusted.word' })), 'of 2', path);
    }
  },
);

guestTest(
  'a file of a layer that is read-only as a filesystem may be written to: it is copied up',
  async (t, guest) => {
    await using client = await guest.client();
    const layers = await upperOn(guest);
    await using disk = await guest.mount({ source: 'lower', type: 'tmpfs' }, client);
    await client.writeFile({ path: disk.file('f'), data: 'lower' });
    const flags = 'MS_REMOUNT|MS_RDONLY';
    await client.mount({ source: 'lower', target: disk.path, type: 'tmpfs', flags });

    await using overlay = await guest.mountOverlay({ lower: disk.path, ...layers }, client);
    t.is(await client.errno.access({ path: disk.file('f'), mode: 'W_OK' }), 'EROFS', 'in its layer');
    t.is(await client.errno.access({ path: overlay.file('f'), mode: 'W_OK' }), 'ok', 'on the overlay');
    await client.writeFile({ path: overlay.file('f'), data: 'UPPER', flags: 'O_WRONLY' });
    t.is(text(await client.readFile({ path: `${layers.upper}/f` })), 'UPPER');
    t.is(text(await client.readFile({ path: disk.file('f') })), 'lower');
  },
);

guestTest('with metacopy=on a file that is emptied has no data from below any more', async (t, guest) => {
  await using client = await guest.client();
  const layers = await layersOf(guest, 2);
  const [lower = '', upper = ''] = layers;
  const names = ['by-name', 'open', 'known'];
  await fill(client, lower, names);
  await using overlay = await over(guest, client, layers, 'metacopy=on,redirect_dir=on');
  await client.truncate({ path: overlay.file('by-name'), length: 0 });
  await client.close({ fd: await client.open({ path: overlay.file('open'), flags: 'O_WRONLY|O_TRUNC' }) });
  await client.chmod({ path: overlay.file('known'), mode: 0o600 });
  await client.truncate({ path: overlay.file('known'), length: 0 });
  for (const name of names) {
    const path = overlay.file(name);
    t.is(text(await client.readFile({ path })), '', name);
    t.is((await client.stat({ path })).size, 0, name);
    const mark = { path: `${upper}/${name}`, name: 'trusted.overlay.metacopy' };
    t.is(await client.errno.getxattr(mark), 'ENODATA', `${name}: the upper file is all there is`);
    t.is(text(await client.readFile({ path: `${lower}/${name}` })), `${name} at the bottom`, 'as it was');
  }
});

guestTest('with metacopy=on what has no data is copied up whole, and has no mark', async (t, guest) => {
  await using client = await guest.client();
  const lower = await guest.directory('ext4', 'lower');
  const layers = await upperOn(guest);
  await fill(client, lower, ['file', 'directory/']);
  await client.mknod({ path: `${lower}/fifo`, mode: 0o010_644 });
  await client.mknod({ path: `${lower}/device`, mode: 0o020_644, major: 1, minor: 3 });
  const options = 'metacopy=on,redirect_dir=on';
  await using overlay = await guest.mountOverlay({ lower, ...layers, options }, client);
  const marks: Record<string, string> = {};
  for (const name of ['file', 'directory', 'fifo', 'device']) {
    await client.chmod({ path: overlay.file(name), mode: 0o700 });
    const mark = { path: `${layers.upper}/${name}`, name: 'trusted.overlay.metacopy' };
    marks[name] = await client.errno.getxattr(mark);
  }
  t.deepEqual(marks, { file: 'ok', directory: 'ENODATA', fifo: 'ENODATA', device: 'ENODATA' });
});

const [FS_IOC_GETFLAGS, FS_IOC_SETFLAGS, FS_NODUMP_FL] = [0x8008_6601, 0x4008_6602, 0x40];

/** What changes a file of the lower layer, but not its data. */
const CHANGES: Readonly<Record<string, (client: Client, path: string) => Promise<unknown>>> = {
  chmod: (client, path) => client.chmod({ path, mode: 0o600 }),
  chown: (client, path) => client.chown({ path, uid: 1234, gid: 1234 }),
  utimens: (client, path) => client.utimens({ path, atimeNs: 'now', mtimeNs: 'now' }),
  setxattr: (client, path) => client.setxattr({ path, name: 'user.word', data: 'value' }),
  removexattr: (client, path) => client.removexattr({ path, name: 'user.below' }),
  'a list': (client, path) =>
    client.setxattr({ path, name: 'system.posix_acl_access', data: aclFor([1500], 4) }),
  'inode flags': async (client, path) => {
    const fd = await client.open({ path, flags: 'O_RDONLY' });
    const told = await client.ioctl({ fd, request: FS_IOC_GETFLAGS, arg: new Uint8Array(8) });
    const flags = Buffer.from(told.arg ?? []);
    flags.writeUInt32LE(flags.readUInt32LE(0) | FS_NODUMP_FL, 0);
    await client.ioctl({ fd, request: FS_IOC_SETFLAGS, arg: new Uint8Array(flags) });
    await client.close({ fd });
  },
  link: (client, path) => client.link({ from: path, to: `${path}-linked` }),
  rename: (client, path) => client.rename({ from: path, to: `${path}-moved` }),
};

guestTest('with metacopy=on no change of anything but the data copies the data up (E4)', async (t, guest) => {
  await using client = await guest.client();
  const lower = await guest.directory('ext4', 'lower');
  const layers = await upperOn(guest);
  const names = Object.keys(CHANGES);
  await fill(client, lower, names);
  for (const name of names) {
    await client.setxattr({ path: `${lower}/${name}`, name: 'user.below', data: 'value' });
  }
  const options = 'metacopy=on,redirect_dir=on';
  await using overlay = await guest.mountOverlay({ lower, ...layers, options }, client);
  for (const [name, change] of Object.entries(CHANGES)) {
    await change(client, overlay.file(name));
    const [copy = ''] = (await client.readdir({ path: layers.upper })).filter(
      (each) => each.startsWith(name) && (name !== 'rename' || each !== name),
    );
    const path = `${layers.upper}/${copy}`;
    t.is(await client.errno.getxattr({ path, name: 'trusted.overlay.metacopy' }), 'ok', `${name}: marked`);
    const zeros = text(await client.readFile({ path }));
    t.is(zeros.replaceAll('\0', ''), '', `${name}: no data in the upper layer`);
    t.is(text(await client.readFile({ path: overlay.file(copy) })), `${name} at the bottom`, name);
  }
});

guestTest(
  'data of a layer below the one that has the metadata are copied up with these (E4, E16)',
  async (t, guest) => {
    await using client = await guest.client();
    const layers = await layersOf(guest, 3);
    const [data = '', metadata = '', upper = ''] = layers;
    const options = 'metacopy=on,redirect_dir=on';
    const names = ['opened', 'renamed', 'truncated', 'changed'];
    await fill(client, data, names);
    {
      await using overlay = await over(guest, client, [data, metadata], options);
      for (const name of names) await client.chmod({ path: overlay.file(name), mode: 0o640 });
      await client.rename({ from: overlay.file('renamed'), to: overlay.file('moved') });
    }
    await using overlay = await over(guest, client, layers, options);
    await client.chmod({ path: overlay.file('changed'), mode: 0o604 });
    await client.truncate({ path: overlay.file('truncated'), length: 6 });
    for (const name of ['opened', 'moved', 'changed']) {
      await client.close({ fd: await client.open({ path: overlay.file(name), flags: 'O_RDWR' }) });
    }
    for (const [name, content, mode] of [
      ['opened', 'opened at the bottom', 0o640],
      ['moved', 'renamed at the bottom', 0o640],
      ['truncated', 'trunca', 0o640],
      ['changed', 'changed at the bottom', 0o604],
    ] as const) {
      const path = `${upper}/${name}`;
      t.is(text(await client.readFile({ path })), content, `${name}: in the upper layer`);
      t.is((await client.stat({ path })).mode & 0o777, mode, `${name}: its mode`);
      const marks = (await client.listxattr({ path })).filter((mark) => mark.includes('metacopy'));
      t.deepEqual(marks, [], `${name}: whole`);
    }
  },
);

const [ACCESSED_NS, MODIFIED_NS] = [1_400_000_000e9, 1_500_000_000e9];

guestTest(
  'a directory has the times that it had when something of it is copied up (E4)',
  async (t, guest) => {
    await using client = await guest.client();
    const lower = await guest.directory('ext4', 'lower');
    const layers = await upperOn(guest);
    const names = ['file', 'directory', 'fifo'];
    await fill(client, lower, ['d/', 'd/file', 'd/directory/']);
    await client.mknod({ path: `${lower}/d/fifo`, mode: 0o010_644 });
    for (const name of names) {
      // Other times than its directory has.
      await client.utimens({ path: `${lower}/d/${name}`, atimeNs: 1e18, mtimeNs: 1e18 });
    }
    await using overlay = await guest.mountOverlay({ lower, ...layers }, client);
    await client.utimens({ path: overlay.file('d'), atimeNs: ACCESSED_NS, mtimeNs: MODIFIED_NS });
    for (const name of names) {
      await client.chmod({ path: overlay.file(`d/${name}`), mode: 0o700 });
      t.is(await client.errno.stat({ path: `${layers.upper}/d/${name}` }), 'ok', `${name} is copied up`);
      for (const path of [`${layers.upper}/d`, overlay.file('d')]) {
        const { atimeNs, mtimeNs } = await client.stat({ path });
        t.deepEqual([atimeNs, mtimeNs], [ACCESSED_NS, MODIFIED_NS], `the directory of ${name}`);
      }
    }
  },
);

guestTest(
  'a name that is not copied up of a file whose metadata are has the data from below (E4, E17)',
  async (t, guest) => {
    await using client = await guest.client();
    const lower = await guest.directory('ext4', 'lower');
    const layers = await upperOn(guest);
    await fill(client, lower, ['a']);
    await client.link({ from: `${lower}/a`, to: `${lower}/b` });
    const options = 'metacopy=on,redirect_dir=on,index=on';
    {
      await using overlay = await guest.mountOverlay({ lower, ...layers, options }, client);
      await client.chmod({ path: overlay.file('a'), mode: 0o640 });
      t.deepEqual(await client.readdir({ path: layers.upper }), ['a'], 'what is copied up');
    }
    // Mounted again, so that the index alone knows what is above of the other name.
    await using overlay = await guest.mountOverlay({ lower, ...layers, options }, client);
    t.is(text(await client.readFile({ path: overlay.file('b') })), 'a at the bottom', 'the other name');
    t.is((await client.stat({ path: overlay.file('b') })).mode & 0o777, 0o640, 'and its mode');
    t.is(text(await client.readFile({ path: overlay.file('a') })), 'a at the bottom');
  },
);
