import { concat, text } from '../lib/bytes.ts';
import type { FileHandle } from '../lib/client.ts';
import { dropCaches } from '../lib/drop-caches.ts';
import { guestTest } from '../lib/guest-test.ts';
import { fill } from '../lib/layers.ts';
import { handleLayers, whereTo, WITH_HANDLES } from '../lib/overlay-handles.ts';
import { layersOnFuse } from '../lib/overlay-on-fuse.ts';
import type { StackedMount } from '../lib/stacked-mount.ts';

/** Handles of an overlay: which layer they are of, what is done for them, and which of them are refused. */

const WITHOUT_UPPER = 'nfs_export=on,redirect_dir=nofollow';

guestTest(
  'an overlay without an upper layer has handles of the layers that it has (E17)',
  async (t, guest) => {
    await using client = await guest.client();
    const [top, bottom] = [await guest.directory('ext4', 'lower'), await guest.directory('ext4', 'lower')];
    await fill(client, top, ['d/', 'd/top/', 'd/file']);
    await fill(client, bottom, ['d/', 'd/bottom/', 'd/bottom/in/', 'd/bottom/in/file', 'single/']);
    const names = ['d', 'd/top', 'd/bottom', 'd/bottom/in', 'single'];
    const files = ['d/file', 'd/bottom/in/file'];
    const handles = new Map<string, FileHandle>();
    const mount = (lower: string[]) => guest.mountOverlay({ lower, options: WITHOUT_UPPER }, client);
    const check = async (overlay: StackedMount, when: string) => {
      for (const name of names) {
        const handle = handles.get(name) ?? { type: 0, handle: new Uint8Array() };
        t.is(await whereTo(client, overlay.path, handle), `/${name}`, `${when}: ${name}`);
      }
      for (const name of files) {
        const handle = handles.get(name) ?? { type: 0, handle: new Uint8Array() };
        const mountFd = await client.open({ path: overlay.path, flags: 'O_RDONLY|O_DIRECTORY' });
        const fd = await client.openByHandle({ mountFd, ...handle, flags: 'O_RDONLY' });
        const data = text(await client.pread({ fd, count: 100, offset: 0 }));
        t.is(data, `${name} at the bottom`, `${when}: ${name}`);
        for (const each of [fd, mountFd]) await client.close({ fd: each });
      }
    };
    {
      await using overlay = await mount([top, bottom]);
      for (const name of [...names, ...files]) {
        handles.set(name, await client.nameToHandle({ path: overlay.file(name) }));
      }
      await check(overlay, 'at first');
    }
    {
      await using overlay = await mount([top, bottom]);
      await check(overlay, 'mounted again');
    }
    // Nothing of the layers is in the cache: who is asked for a directory has to find its way up.
    await dropCaches(client, 'names and inodes');
    await using overlay = await mount([top, bottom]);
    await check(overlay, 'with nothing in the cache');
  },
);

guestTest(
  'the root of an overlay without an upper layer has a handle as everything below it has (E17)',
  async (t, guest) => {
    await using client = await guest.client();
    const bottom = await guest.directory('ext4', 'lower');
    await using whole = await guest.mount({ source: 'none', type: 'tmpfs' }, client);
    const directory = await guest.directory('ext4', 'lower');
    // A layer may be all of a filesystem, as an image is, or a directory in one.
    for (const [what, top] of [
      ['a directory', directory],
      ['a filesystem', whole.path],
    ] as const) {
      await fill(client, top, ['d/', 'd/s/']);
      await using overlay = await guest.mountOverlay(
        { lower: [top, bottom], options: WITHOUT_UPPER },
        client,
      );
      for (const [name, where] of [
        ['d/s', '/d/s'],
        ['d', '/d'],
        ['', ''],
      ] as const) {
        const handle = await client.nameToHandle({ path: overlay.file(name) });
        t.is(await whereTo(client, overlay.path, handle), where, `“${name}”, its first layer ${what}`);
      }
    }
  },
);

guestTest('a handle of an upper layer is of no use where there is none (E17)', async (t, guest) => {
  await using client = await guest.client();
  const { lower, upper, mount } = await handleLayers(guest, client);
  let handles;
  {
    await using overlay = await mount(WITH_HANDLES);
    await fill(client, overlay.path, ['new', 'newdir/']);
    const of = (name: string) => client.nameToHandle({ path: overlay.file(name) });
    handles = { new: await of('new'), newdir: await of('newdir'), f: await of('f') };
    t.is(await whereTo(client, overlay.path, handles.newdir), '/newdir');
  }
  await using overlay = await guest.mountOverlay({ lower: [upper, lower], options: WITHOUT_UPPER }, client);
  t.is(await whereTo(client, overlay.path, handles.new), 'ESTALE', 'a file');
  t.is(await whereTo(client, overlay.path, handles.newdir), 'ESTALE', 'a directory');
  t.not(await whereTo(client, overlay.path, handles.f), 'ESTALE', 'a file of the lower layer');
});

guestTest('without nfs_export a handle is a name for a file, and leads nowhere (E17)', async (t, guest) => {
  guest.needs(guest.expected.hasIoModes, 'handles that only say which file it is (AT_HANDLE_FID)');
  await using client = await guest.client();
  const { mount } = await handleLayers(guest, client);
  const flags = 'AT_HANDLE_FID';
  await using overlay = await mount();
  await fill(client, overlay.path, ['new']);
  const of = (name: string) => client.nameToHandle({ path: overlay.file(name), flags });
  const names = ['f', 'other', 'd', 'd/s', 'new', ''];
  const before: FileHandle[] = [];
  for (const name of names) before.push(await of(name));
  t.is(
    new Set(before.map(({ handle }) => Buffer.from(handle).toString('hex'))).size,
    names.length,
    'all differ',
  );
  for (const name of ['f', 'd/s']) await client.chmod({ path: overlay.file(name), mode: 0o700 });
  for (const [nth, name] of names.entries()) t.deepEqual(await of(name), before[nth], `${name}: as it was`);
  const [handle] = before;
  if (handle !== undefined)
    t.is(await whereTo(client, overlay.path, handle), 'ESTALE', 'nothing is opened by it');
});

guestTest('a handle has to have room for all of it (E17)', async (t, guest) => {
  await using client = await guest.client();
  const { mount } = await handleLayers(guest, client);
  await using overlay = await mount(WITH_HANDLES);
  const path = overlay.file('f');
  const { handle } = await client.nameToHandle({ path });
  for (const room of [0, 4, handle.length - 4]) {
    t.is(await client.errno.nameToHandle({ path, room }), 'EOVERFLOW', `${room} bytes`);
  }
  t.deepEqual((await client.nameToHandle({ path, room: handle.length })).handle, handle);
});

/** OVL_FILEID_V1 and the one before it, in which nothing stands before the layer's handle (fs/overlayfs/overlayfs.h). */
const [OVERLAY_HANDLE, OLD_OVERLAY_HANDLE] = [0xf8, 0xfb];
const PADDING = 3;

guestTest(
  'a handle of the old form is good, a changed one or one of another kind is not (E17)',
  async (t, guest) => {
    await using client = await guest.client();
    const { mount } = await handleLayers(guest, client);
    await using overlay = await mount(WITH_HANDLES);
    for (const [name, where] of [
      ['d/s', '/d/s'],
      ['', ''],
    ] as const) {
      const { type, handle } = await client.nameToHandle({ path: overlay.file(name) });
      t.is(type, OVERLAY_HANDLE);
      const old = concat(handle.subarray(PADDING), new Uint8Array(PADDING));
      const changed = (at: number, value: number) => handle.with(PADDING + at, value);
      const forms: Readonly<Record<string, readonly [FileHandle, string]>> = {
        'as it is': [{ type, handle }, where],
        'of the old form': [{ type: OLD_OVERLAY_HANDLE, handle: old }, where],
        'of the new form, called an old one': [{ type: OLD_OVERLAY_HANDLE, handle }, 'ESTALE'],
        'of the old form, called a new one': [{ type, handle: old }, 'ESTALE'],
        'an old one without contents': [
          { type: OLD_OVERLAY_HANDLE, handle: handle.subarray(0, 3) },
          'ESTALE',
        ],
        'an old one that is cut off': [{ type: OLD_OVERLAY_HANDLE, handle: old.subarray(0, 16) }, 'ESTALE'],
        'another type': [{ type: 1, handle }, 'ESTALE'],
        'cut off': [{ type, handle: handle.subarray(0, handle.length - 4) }, 'ESTALE'],
        'another version': [{ type, handle: changed(0, 1) }, 'ESTALE'],
        'another magic number': [{ type, handle: changed(1, 0xfa) }, 'ESTALE'],
        'unknown flags': [{ type, handle: changed(3, 0x40) }, 'ESTALE'],
        'another filesystem': [{ type, handle: changed(5, (handle[PADDING + 5] ?? 0) ^ 0xff) }, 'ESTALE'],
      };
      for (const [what, [form, expected]] of Object.entries(forms)) {
        t.is(await whereTo(client, overlay.path, form), expected, `“${name}” ${what}`);
      }
    }
  },
);

guestTest(
  'what was copied up before there were handles is known by its upper layer, and what is below it gets copied up (E17)',
  async (t, guest) => {
    await using client = await guest.client();
    const { upper, mount } = await handleLayers(guest, client);
    {
      await using overlay = await mount();
      for (const name of ['d', 'f']) await client.chmod({ path: overlay.file(name), mode: 0o700 });
    }
    let handles;
    {
      await using overlay = await mount(WITH_HANDLES);
      const of = (name: string) => client.nameToHandle({ path: overlay.file(name) });
      handles = { d: await of('d'), 'd/s': await of('d/s') };
      t.is(await client.errno.lstat({ path: `${upper}/d/s` }), 'ok', 'a directory below it is copied up');
      t.is(await client.errno.lstat({ path: `${upper}/d/t` }), 'ENOENT', 'which nobody asked for is not');
      t.deepEqual(await of('d/s'), handles['d/s'], 'asked for again');
      await client.rename({ from: overlay.file('d'), to: overlay.file('moved') });
      for (const [name, handle] of Object.entries(handles)) {
        t.is(await whereTo(client, overlay.path, handle), `/${name.replace('d', 'moved')}`);
      }
    }
    await using again = await mount(WITH_HANDLES);
    for (const [name, handle] of Object.entries(handles)) {
      t.is(await whereTo(client, again.path, handle), `/${name.replace('d', 'moved')}`, 'mounted again');
    }
  },
);

guestTest(
  'a directory of a lower layer that gets copied up for its handle has the same one ever after (E17)',
  async (t, guest) => {
    await using client = await guest.client();
    const { lower: first, upper, work } = await handleLayers(guest, client);
    const second = await guest.directory('ext4', 'lower');
    await fill(client, second, ['d/', 'd/b/', 'd/b/c/']);
    const lower = [first, second];
    await using overlay = await guest.mountOverlay({ lower, upper, work, options: WITH_HANDLES }, client);
    const of = (name: string) => client.nameToHandle({ path: overlay.file(name) });
    await client.chmod({ path: overlay.file('d/b'), mode: 0o700 });
    const handle = await of('d/b');
    t.deepEqual(await client.readdir({ path: `${upper}/d` }), ['b'], 'it is in the upper layer');
    t.is(await whereTo(client, overlay.path, handle), '/d/b');
    t.is(await whereTo(client, overlay.path, await of('d/b/c')), '/d/b/c');
    t.deepEqual(await client.readdir({ path: `${upper}/d/b` }), [], 'what is below it is not');
    await client.rename({ from: overlay.file('d/b'), to: overlay.file('moved') });
    t.deepEqual(await of('moved'), handle);
    t.is(await whereTo(client, overlay.path, handle), '/moved');
  },
);

guestTest(
  'below a directory that was copied up with its handle nothing more is copied up for another (E17)',
  async (t, guest) => {
    await using client = await guest.client();
    const { upper, mount } = await handleLayers(guest, client);
    await using overlay = await mount(WITH_HANDLES);
    await client.chmod({ path: overlay.file('d'), mode: 0o700 });
    const handle = await client.nameToHandle({ path: overlay.file('d/s') });
    t.deepEqual(await client.readdir({ path: `${upper}/d` }), []);
    t.is(await whereTo(client, overlay.path, handle), '/d/s');
  },
);

guestTest(
  'nothing is copied up for the handle of a file, wherever it is: only directories have to be found from the root (E17)',
  async (t, guest) => {
    await using client = await guest.client();
    const { lower, upper, mount } = await handleLayers(guest, client);
    await fill(client, lower, ['d/g']);
    {
      // Before there were handles: a directory in it would be copied up for its own.
      await using overlay = await mount();
      await client.chmod({ path: overlay.file('d'), mode: 0o700 });
    }
    for (const when of ['at first', 'mounted again']) {
      await using overlay = await mount(WITH_HANDLES);
      const mountFd = await client.open({ path: overlay.path, flags: 'O_RDONLY|O_DIRECTORY' });
      for (const name of ['d/g', 'd/s/f']) {
        const handle = await client.nameToHandle({ path: overlay.file(name) });
        const fd = await client.openByHandle({ mountFd, ...handle, flags: 'O_RDONLY' });
        const data = text(await client.pread({ fd, count: 100, offset: 0 }));
        t.is(data, `${name} at the bottom`, `${name} ${when}`);
        await client.close({ fd });
        t.deepEqual(await client.readdir({ path: `${upper}/d` }), [], `${name} ${when}: copied up`);
      }
      await client.close({ fd: mountFd });
    }
  },
);

guestTest(
  'no handle is given for what would have to be copied up for it and cannot be (E17)',
  async (t, guest) => {
    await using client = await guest.client();
    await using layers = await layersOnFuse(guest, client);
    const { fuse } = layers;
    await fill(client, fuse.backing('lower'), ['d/', 'd/s/']);
    {
      await using overlay = await layers.mount();
      await client.chmod({ path: overlay.file('d'), mode: 0o700 });
    }
    await using overlay = await layers.mount(WITH_HANDLES);
    const permit = await fuse.fail('MKDIR', 'ENOSPC');
    t.is(await client.errno.nameToHandle({ path: overlay.file('d/s') }), 'EOVERFLOW');
    await permit();
    t.is(await client.errno.nameToHandle({ path: overlay.file('d/s') }), 'ok', 'later');
    t.is(await client.errno.stat({ path: fuse.backing('upper/d/s') }), 'ok', 'it is copied up');
  },
);
