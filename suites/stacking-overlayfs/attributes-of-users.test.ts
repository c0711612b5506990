import { text } from '../lib/bytes.ts';
import { guestTest } from '../lib/guest-test.ts';
import { fill } from '../lib/layers.ts';
import { upperOn } from '../lib/stack.ts';

/** An overlay that keeps its marks in attributes of users (userxattr, overlayfs.rst), and all others of those. */

guestTest('with userxattr all other attributes of users are those of the file', async (t, guest) => {
  await using client = await guest.client();
  const lower = await guest.directory('ext4', 'lower');
  await client.writeFile({ path: `${lower}/f`, data: 'low' });
  const set = { name: 'user.word', data: 'value' };
  await client.setxattr({ path: `${lower}/f`, ...set });
  const layers = await upperOn(guest);
  await using overlay = await guest.mountOverlay({ lower, ...layers, options: 'userxattr' }, client);
  const path = overlay.file('f');
  t.deepEqual(await client.listxattr({ path }), ['user.word'], 'of the lower layer');
  await client.chmod({ path, mode: 0o600 });
  t.is(text(await client.getxattr({ path: `${layers.upper}/f`, name: 'user.word' })), 'value', 'copied up');
  t.deepEqual(await client.listxattr({ path }), ['user.word'], 'of the upper layer');
  if (!guest.expected.overlaysWithDataLayers) return;
  // What is called like a mark has a longer name in the layer.
  await client.setxattr({ path, name: 'user.overlay.mine', data: 'own' });
  t.is(text(await client.getxattr({ path, name: 'user.overlay.mine' })), 'own');
  t.deepEqual((await client.listxattr({ path })).toSorted(), ['user.overlay.mine', 'user.word']);
  const inLayer = { path: `${layers.upper}/f`, name: 'user.overlay.overlay.mine' };
  t.is(text(await client.getxattr(inLayer)), 'own', 'in the layer');
  await client.removexattr({ path, name: 'user.overlay.mine' });
  t.deepEqual(await client.listxattr({ path }), ['user.word'], 'removed');
});

guestTest(
  'root of a user namespace does not see the names of trusted attributes on an overlay',
  async (t, guest) => {
    await using client = await guest.client();
    const lower = await guest.directory('ext4', 'lower');
    await client.writeFile({ path: `${lower}/f`, data: 'low' });
    for (const name of ['trusted.word', 'user.word']) {
      await client.setxattr({ path: `${lower}/f`, name, data: 'value' });
    }
    await using overlay = await guest.mountOverlay({ lower, ...(await upperOn(guest)) }, client);
    await using within = await guest.client({ launcher: ['unshare', '--user', '--map-root-user'] });
    const path = overlay.file('f');
    const seen = async () => ({
      root: (await client.listxattr({ path })).toSorted(),
      within: await within.listxattr({ path }),
    });
    const expected = { root: ['trusted.word', 'user.word'], within: ['user.word'] };
    t.deepEqual(await seen(), expected, 'of the lower layer');
    await client.chmod({ path, mode: 0o604 });
    t.deepEqual(await seen(), expected, 'copied up');
  },
);

guestTest(
  'an attribute that is set empty on an overlay is there, and one needs room to be read (A45)',
  async (t, guest) => {
    await using client = await guest.client();
    const lower = await guest.directory('ext4', 'lower');
    const layers = await upperOn(guest);
    await fill(client, lower, ['below']);
    await fill(client, layers.upper, ['above']);
    await client.setxattr({ path: `${lower}/below`, name: 'user.old', data: 'value' });
    await using overlay = await guest.mountOverlay({ lower, ...layers }, client);
    const old = { path: overlay.file('below'), name: 'user.old' };
    t.is(await client.errno.getxattr({ ...old, size: 4 }), 'ERANGE', 'too little room');
    t.is(text(await client.getxattr({ ...old, size: 5 })), 'value', 'just enough');
    for (const name of ['below', 'above']) {
      const path = overlay.file(name);
      await client.setxattr({ path, name: 'user.empty', data: '' });
      for (const at of [path, `${layers.upper}/${name}`]) {
        t.is((await client.getxattr({ path: at, name: 'user.empty' })).length, 0, `${name}: empty`);
        t.true((await client.listxattr({ path: at })).includes('user.empty'), `${name}: listed`);
      }
      const again = { path, name: 'user.empty', data: 'more', flags: 'XATTR_CREATE' };
      t.is(await client.errno.setxattr(again), 'EEXIST', `${name}: there`);
    }
    const replaced = { ...old, data: 'new', flags: 'XATTR_REPLACE' };
    t.is(await client.errno.setxattr(replaced), 'ok', 'what was copied up with the file is replaced');
    t.is(
      text(await client.getxattr({ path: `${lower}/below`, name: 'user.old' })),
      'value',
      'in its layer it stays',
    );
  },
);

guestTest(
  'who mounts an overlay in a user namespace has no handles: what is copied up does not say which file it was',
  async (t, guest) => {
    await using client = await guest.client();
    await using within = await guest.client({ launcher: ['unshare', '-Urm'] });
    for (const [who, by, known] of [
      ['root', client, true],
      ['root of a user namespace', within, false],
    ] as const) {
      const lower = await guest.directory('ext4', 'lower');
      const layers = await upperOn(guest);
      await fill(client, lower, ['f']);
      await using overlay = await guest.mountOverlay({ lower, ...layers, options: 'userxattr' }, by);
      await by.chmod({ path: overlay.file('f'), mode: 0o600 });
      const origin = await client.getxattr({ path: `${layers.upper}/f`, name: 'user.overlay.origin' });
      t.is(origin.length > 0, known, `${who}: a mark of ${origin.length} bytes`);
      t.is(text(await by.readFile({ path: overlay.file('f') })), 'f at the bottom', who);
    }
  },
);

guestTest(
  'names of attributes after one that is called like a mark are listed as they are (A45)',
  async (t, guest) => {
    guest.needs(guest.expected.hasIoModes, 'attributes of an overlay that are called like its marks');
    await using client = await guest.client();
    for (const [options, prefix] of [
      [undefined, 'trusted.overlay.'],
      ['userxattr', 'user.overlay.'],
    ] as const) {
      const lower = await guest.directory('ext4', 'lower');
      const layers = await upperOn(guest);
      await fill(client, layers.upper, ['f']);
      await using overlay = await guest.mountOverlay({ lower, ...layers, options }, client);
      const path = overlay.file('f');
      const names: string[] = [];
      // Each comes after those that are there already, or before them, as the filesystem likes.
      for (const name of [`${prefix}a-first`, 'user.b', `${prefix}third`, 'user.last-of-all']) {
        await client.setxattr({ path, name, data: 'value' });
        names.push(name);
        t.deepEqual((await client.listxattr({ path })).toSorted(), names.toSorted(), `with ${name}`);
      }
      await client.removexattr({ path, name: `${prefix}a-first` });
      t.deepEqual(
        (await client.listxattr({ path })).toSorted(),
        names.slice(1).toSorted(),
        'without the first',
      );
    }
  },
);
