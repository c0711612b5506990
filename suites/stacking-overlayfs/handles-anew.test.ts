import type { Client, FileHandle } from '../lib/client.ts';
import { dropCaches } from '../lib/drop-caches.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';
import { fill } from '../lib/layers.ts';
import { handleLayers, whereTo, WITH_HANDLES } from '../lib/overlay-handles.ts';
import { layersOnFuse } from '../lib/overlay-on-fuse.ts';
import { upperOn } from '../lib/stack.ts';

/** Handles of an overlay that nobody has looked into yet, and those that nothing has to be copied up for. */

async function forgetNames(client: Client): Promise<void> {
  // What was used a moment ago gets a second chance.
  for (let times = 0; times < 2; times++) await dropCaches(client, 'names and inodes');
}

/** The same layers on ext4, or on FUSE, whose server sees what the kernel has to ask for. */
async function layersOn(guest: TestGuest, client: Client, below: 'ext4' | 'FUSE') {
  if (below === 'ext4') return { ...(await handleLayers(guest, client)), fuse: undefined };
  const { fuse, mount } = await layersOnFuse(guest, client);
  // A handle may be used when the kernel has forgotten the node: this server has not.
  await fuse.fail({ opcode: ['FORGET', 'BATCH_FORGET'] }, 'ENOENT');
  await fill(client, fuse.backing('lower'), ['d/', 'd/s/', 'd/t/']);
  return { fuse, mount };
}

for (const below of ['ext4', 'FUSE'] as const) {
  guestTest(
    `with nothing in the cache the handle of a directory leads to it, made or copied up or below such a one, on ${below} (E17)`,
    async (t, guest) => {
      await using client = await guest.client();
      const { fuse, mount } = await layersOn(guest, client, below);
      await using _fuse = fuse;
      const handles = new Map<string, FileHandle>();
      {
        await using overlay = await mount(WITH_HANDLES);
        await fill(client, overlay.path, ['made/', 'made/in/', 'made/in/deep/']);
        for (const name of ['d', 'd/s', 'd/t', 'made/in/deep', 'made/in', 'made'])
          handles.set(name, await client.nameToHandle({ path: overlay.file(name) }));
        // With the handle of its lower one, and beside a directory that stays where it is.
        await client.chmod({ path: overlay.file('d/t'), mode: 0o700 });
        await client.rename({ from: overlay.file('d'), to: overlay.file('moved') });
        await client.rename({ from: overlay.file('made/in'), to: overlay.file('moved/in') });
      }
      for (const [name, where] of [
        ['d/s', '/moved/s'],
        ['d/t', '/moved/t'],
        ['made/in/deep', '/moved/in/deep'],
        ['made/in', '/moved/in'],
        ['d', '/moved'],
        ['made', '/made'],
      ] as const) {
        await forgetNames(client);
        // Each is the first that anybody asks of the overlay.
        await using overlay = await mount(WITH_HANDLES);
        await forgetNames(client);
        const after = await fuse?.position();
        const handle = handles.get(name) ?? { type: 0, handle: new Uint8Array() };
        t.is(await whereTo(client, overlay.path, handle), where, `what was ${name}`);
        const asked = (await fuse?.requests({ opcode: 'LOOKUP', after })) ?? [];
        const names = asked.map(({ args }) => args['name']);
        if (fuse !== undefined)
          t.true(names.includes('..'), `what was ${name}: nothing of it was in the cache`);
      }
    },
  );
}

guestTest('what is copied up has one handle, by its name and by its handle (E17)', async (t, guest) => {
  await using client = await guest.client();
  const { mount } = await handleLayers(guest, client);
  let handle;
  {
    await using overlay = await mount(WITH_HANDLES);
    handle = await client.nameToHandle({ path: overlay.file('f') });
    await client.chmod({ path: overlay.file('f'), mode: 0o600 });
    await client.link({ from: overlay.file('f'), to: overlay.file('second') });
  }
  await using overlay = await mount(WITH_HANDLES);
  const mountFd = await client.open({ path: overlay.path, flags: 'O_RDONLY|O_DIRECTORY' });
  const fd = await client.openByHandle({ mountFd, ...handle, flags: 'O_RDONLY' });
  const opened = await client.nameToHandle({ dirfd: fd, path: '', flags: 'AT_EMPTY_PATH' });
  t.deepEqual(opened, handle, 'of the file that was opened by it');
  const identity = async (name: string): Promise<unknown> => {
    const { ino, nlink } = await client.stat({ path: overlay.file(name) });
    return { ino, nlink };
  };
  const { ino, nlink } = await client.fstat({ fd });
  for (const name of ['f', 'second']) {
    t.deepEqual(await identity(name), { ino, nlink }, `${name}: the file that was opened`);
    t.deepEqual(await client.nameToHandle({ path: overlay.file(name) }), handle, `${name}: its handle`);
  }
  await client.unlink({ path: overlay.file('second') });
  t.is((await client.fstat({ fd })).nlink, nlink - 1, 'a link less of what is open');
  for (const each of [fd, mountFd]) await client.close({ fd: each });
});

guestTest(
  'for the handle of a directory above which nothing is merged nothing is copied up (E17)',
  async (t, guest) => {
    await using client = await guest.client();
    const names = [
      ['of-the-first/', 'of-the-first/in/'],
      ['of-the-second/', 'of-the-second/in/'],
    ];
    const lower: string[] = [];
    for (const each of names) {
      const layer = await guest.directory('ext4', 'lower');
      await fill(client, layer, each);
      lower.push(layer);
    }
    for (const [what, layers] of [
      ['one lower layer', lower.slice(0, 1)],
      ['two lower layers', lower],
    ] as const) {
      const { upper, work } = await upperOn(guest);
      const options = { lower: layers, upper, work, options: WITH_HANDLES };
      await using overlay = await guest.mountOverlay(options, client);
      // Below first: a directory whose handle was given is not looked at a second time.
      for (const name of names.slice(0, layers.length).flat().toReversed()) {
        const handle = await client.nameToHandle({ path: overlay.file(name) });
        t.is(await whereTo(client, overlay.path, handle), `/${name.replace(/\/$/, '')}`, what);
      }
      t.deepEqual(await client.readdir({ path: upper }), [], `${what}: the upper layer stays empty`);
    }
  },
);
