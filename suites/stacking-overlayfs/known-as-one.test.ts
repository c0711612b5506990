import { guestTest } from '../lib/guest-test.ts';
import { fill, layersOf, over } from '../lib/layers.ts';
import { handleLayers, WITH_HANDLES } from '../lib/overlay-handles.ts';
import { upperOn } from '../lib/stack.ts';

/** What an overlay takes for the same file or directory by what its layers and its index say, and what not. */

guestTest(
  'a further name of a file whose links were broken by a copy-up is the file that is open (E17)',
  async (t, guest) => {
    await using client = await guest.client();
    await using other = await guest.client();
    const layers = await layersOf(guest, 2);
    const [lower = '', upper = ''] = layers;
    await fill(client, lower, ['a']);
    await client.link({ from: `${lower}/a`, to: `${lower}/b` });
    await using overlay = await over(guest, client, layers, 'index=off');
    const fd = await client.open({ path: overlay.file('a'), flags: 'O_RDWR' });
    await client.link({ from: `${upper}/a`, to: `${upper}/c` });
    await client.flock({ fd, operation: 'LOCK_EX' });
    for (const [name, errno] of [
      ['c', 'EAGAIN'],
      ['b', 'ok'],
    ] as const) {
      const another = await other.open({ path: overlay.file(name), flags: 'O_RDONLY' });
      const locked = await other.errno.flock({ fd: another, operation: 'LOCK_EX|LOCK_NB' });
      t.is(locked, errno, `a lock by the name ${name} while the file is locked by the name a`);
      await other.close({ fd: another });
    }
    await client.close({ fd });
  },
);

guestTest(
  'who mounts an overlay in a user namespace does not follow origins that were stored before (E17)',
  async (t, guest) => {
    await using client = await guest.client();
    await using within = await guest.client({ launcher: ['unshare', '-Urm'] });
    const lower = await guest.directory('ext4', 'lower');
    const layers = { lower, ...(await upperOn(guest)), options: 'userxattr' };
    await fill(client, lower, ['f']);
    {
      await using overlay = await guest.mountOverlay(layers, client);
      await client.chmod({ path: overlay.file('f'), mode: 0o600 });
    }
    const origin = await client.getxattr({ path: `${layers.upper}/f`, name: 'user.overlay.origin' });
    t.true(origin.length > 0, 'an origin is stored');
    for (const [who, by, layer] of [
      ['root of a user namespace', within, layers.upper],
      ['root', client, lower],
    ] as const) {
      await using overlay = await guest.mountOverlay(layers, by);
      const { ino } = await by.stat({ path: overlay.file('f') });
      t.is(ino, (await client.stat({ path: `${layer}/f` })).ino, `${who}: the number of the copied file`);
    }
  },
);

guestTest(
  'an index of directories counts with nfs_export alone: with index=on directories are merged by their names (E17)',
  async (t, guest) => {
    await using client = await guest.client();
    const { lower, mount } = await handleLayers(guest, client);
    {
      await using overlay = await mount(WITH_HANDLES);
      await fill(client, overlay.path, ['d/up']);
    }
    await client.rename({ from: `${lower}/d`, to: `${lower}/moved` });
    await fill(client, lower, ['d/', 'd/new']);
    await using overlay = await mount('index=on');
    for (const [name, names, what] of [
      ['d', ['new', 'up'], 'merged with the one that has come in the place of its lower one'],
      ['moved', ['s', 't'], 'the lower one, which the index has for another'],
    ] as const) {
      const path = overlay.file(name);
      t.is(await client.errno.lstat({ path }), 'ok', what);
      t.deepEqual(await client.readdir({ path }), names, what);
    }
  },
);

guestTest(
  'a directory whose entry in the index says no more which one it is cannot be looked up, and nothing is mended (E17)',
  async (t, guest) => {
    await using client = await guest.client();
    const { work, mount } = await handleLayers(guest, client);
    {
      await using overlay = await mount(WITH_HANDLES);
      await client.chmod({ path: overlay.file('d'), mode: 0o700 });
    }
    const index = `${work}/index`;
    const [entry = ''] = (await client.readdir({ path: index })).filter((name) => !name.startsWith('#'));
    const says = { path: `${index}/${entry}`, name: 'trusted.overlay.upper' };
    const data = new Uint8Array(await client.getxattr(says));
    await using overlay = await mount(WITH_HANDLES);
    const path = overlay.file('d');
    await client.removexattr(says);
    t.is(await client.errno.lstat({ path }), 'EIO');
    t.is(await client.errno.getxattr(says), 'ENODATA', 'the entry is left as it is');
    await client.setxattr({ ...says, data });
    t.is(await client.errno.lstat({ path }), 'ok', 'it says so again');
  },
);
