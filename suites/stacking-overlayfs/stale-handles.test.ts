import { concat, text } from '../lib/bytes.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';
import { fill } from '../lib/layers.ts';
import { handleLayers, whereTo, WITH_HANDLES } from '../lib/overlay-handles.ts';
import { layersOnFuse } from '../lib/overlay-on-fuse.ts';

/** Handles of an overlay that lead nowhere any more: nothing else is opened by them. */

/** Of handles that were refused for anything but that they are stale, as whoever opens them cannot tell. */
async function refusals(guest: TestGuest, after: number | undefined): Promise<string[]> {
  const lines = (await guest.kernelLog(after)).map(({ text }) => text);
  return lines.filter((line) => line.includes('failed to decode file handle'));
}

guestTest(
  'a handle of what was removed through the overlay is stale, of either layer (E17)',
  async (t, guest) => {
    await using client = await guest.client();
    const { mount } = await handleLayers(guest, client);
    await using overlay = await mount(WITH_HANDLES);
    const after = (await guest.kernelLog()).at(-1)?.seq;
    await fill(client, overlay.path, ['new', 'newdir/']);
    const kinds = { f: 'unlink', new: 'unlink', 'd/t': 'rmdir', newdir: 'rmdir' } as const;
    for (const [name, remove] of Object.entries(kinds)) {
      const path = overlay.file(name);
      const handle = await client.nameToHandle({ path });
      if (remove === 'rmdir') t.is(await whereTo(client, overlay.path, handle), `/${name}`);
      await client[remove]({ path });
      t.is(await whereTo(client, overlay.path, handle), 'ESTALE', name);
    }
    t.deepEqual(await refusals(guest, after), [], 'nothing is said of a handle that is stale');
  },
);

guestTest(
  'a handle of a lower file that was removed is good while the file is open, and stale after (E17)',
  async (t, guest) => {
    await using client = await guest.client();
    const { mount } = await handleLayers(guest, client);
    await using overlay = await mount(WITH_HANDLES);
    const handle = await client.nameToHandle({ path: overlay.file('f') });
    const fd = await client.open({ path: overlay.file('f'), flags: 'O_RDONLY' });
    await client.unlink({ path: overlay.file('f') });
    const mountFd = await client.open({ path: overlay.path, flags: 'O_RDONLY|O_DIRECTORY' });
    const again = await client.openByHandle({ mountFd, ...handle, flags: 'O_RDONLY' });
    t.is(
      text(await client.pread({ fd: again, count: 20, offset: 0 })),
      'f at the bottom',
      'while it is open',
    );
    for (const each of [again, fd, mountFd]) await client.close({ fd: each });
    t.is(await whereTo(client, overlay.path, handle), 'ESTALE', 'when it is closed');
  },
);

guestTest(
  'a handle of a directory that was removed or replaced without an index does not lead to another (E17)',
  async (t, guest) => {
    await using client = await guest.client();
    const { mount, upper } = await handleLayers(guest, client);
    let handles;
    {
      await using overlay = await mount(WITH_HANDLES);
      const of = (name: string) => client.nameToHandle({ path: overlay.file(name) });
      handles = { d: await of('d'), 'd/s': await of('d/s'), 'd/t': await of('d/t') };
    }
    {
      await using overlay = await mount();
      await client.unlink({ path: overlay.file('d/s/f') });
      for (const name of ['s', 't']) await client.rmdir({ path: overlay.file(`d/${name}`) });
      await fill(client, overlay.path, ['d/t/', 'd/t/other']);
    }
    t.deepEqual(await client.readdir({ path: `${upper}/d` }), ['s', 't']);
    await using overlay = await mount(WITH_HANDLES);
    t.is(await whereTo(client, overlay.path, handles['d/s']), 'ESTALE', 'removed');
    const after = (await guest.kernelLog()).at(-1)?.seq;
    t.is(await whereTo(client, overlay.path, handles['d/t']), 'ESTALE', 'replaced');
    t.deepEqual(await refusals(guest, after), [], 'replaced: nothing is said of a handle that is stale');
    t.deepEqual(await client.readdir({ path: overlay.file('d/t') }), ['other']);
  },
);

guestTest(
  'a handle of what is not in the lower layer any more is stale, wherever it has gone to (E17)',
  async (t, guest) => {
    await using client = await guest.client();
    const { lower, mount } = await handleLayers(guest, client);
    const outside = await guest.directory('ext4', 'outside');
    let handles;
    {
      await using overlay = await mount(WITH_HANDLES);
      const of = (name: string) => client.nameToHandle({ path: overlay.file(name) });
      handles = { f: await of('f'), 'd/s': await of('d/s'), 'd/t': await of('d/t') };
    }
    await client.unlink({ path: `${lower}/f` });
    await client.rename({ from: `${lower}/d/s`, to: `${outside}/s` });
    await client.rename({ from: `${lower}/d/t`, to: `${lower}/moved` });
    await using overlay = await mount(WITH_HANDLES);
    t.is(await whereTo(client, overlay.path, handles.f), 'ESTALE', 'a file that was removed');
    t.is(await whereTo(client, overlay.path, handles['d/s']), 'ESTALE', 'a directory that is in no layer');
    t.is(await whereTo(client, overlay.path, handles['d/t']), '/moved', 'a directory that is in the layer');
  },
);

/** What becomes of the index entry of a directory that was copied up, and to where its handle then leads. */
const ENTRIES: Readonly<Record<string, readonly [name: string, data: string | null, where: string]>> = {
  'as it is': ['trusted.overlay.other', 'x', '/d/s'],
  'without an upper directory': ['trusted.overlay.upper', null, 'ESTALE'],
  'with what is no handle of one': ['trusted.overlay.upper', 'x', 'ESTALE'],
};

guestTest(
  'a handle whose index entry leads nowhere is stale, and so is one below it (E17)',
  async (t, guest) => {
    await using client = await guest.client();
    for (const [what, [name, data, where]] of Object.entries(ENTRIES)) {
      const { work, mount } = await handleLayers(guest, client);
      let handles;
      {
        await using overlay = await mount(WITH_HANDLES);
        const of = (path: string) => client.nameToHandle({ path: overlay.file(path) });
        handles = { d: await of('d'), s: await of('d/s') };
        await client.chmod({ path: overlay.file('d'), mode: 0o700 });
      }
      await using overlay = await mount(WITH_HANDLES);
      const [entry = '', ...more] = (await client.readdir({ path: `${work}/index` })).filter(
        (each) => !each.startsWith('#'),
      );
      t.deepEqual(more, [], 'one directory is copied up');
      const path = `${work}/index/${entry}`;
      if (data === null) await client.removexattr({ path, name });
      else await client.setxattr({ path, name, data });
      t.is(await whereTo(client, overlay.path, handles.d), where === 'ESTALE' ? where : '/d', what);
      t.is(await whereTo(client, overlay.path, handles.s), where, `${what}: below it`);
    }
  },
);

guestTest(
  'a handle below what was removed is stale, even if nothing is known of itself (E17)',
  async (t, guest) => {
    await using client = await guest.client();
    const { work, mount } = await handleLayers(guest, client);
    const index = `${work}/index`;
    let handle;
    {
      await using overlay = await mount(WITH_HANDLES);
      handle = await client.nameToHandle({ path: overlay.file('d/s') });
      await client.unlink({ path: overlay.file('d/s/f') });
      for (const name of ['d/s', 'd/t']) await client.rmdir({ path: overlay.file(name) });
      const removed: string[] = [];
      for (const name of await client.readdir({ path: index })) {
        const { mode } = await client.lstat({ path: `${index}/${name}` });
        if (!name.startsWith('#') && (mode & 0o170_000) === 0o020_000) removed.push(name);
      }
      t.is(removed.length, 3, 'what was in the directory');
      await client.rmdir({ path: overlay.file('d') });
      for (const name of removed) await client.unlink({ path: `${index}/${name}` });
    }
    await using overlay = await mount(WITH_HANDLES);
    t.is(
      (await client.readdir({ path: index })).filter((name) => !name.startsWith('#')).length,
      1,
      'that of d',
    );
    const after = (await guest.kernelLog()).at(-1)?.seq;
    t.is(await whereTo(client, overlay.path, handle), 'ESTALE');
    t.deepEqual(await refusals(guest, after), [], 'nothing is said of a handle that is stale');
  },
);

guestTest('a handle whose index entry is of another file is stale (E17)', async (t, guest) => {
  await using client = await guest.client();
  const { work, mount } = await handleLayers(guest, client);
  const index = `${work}/index`;
  const origin = 'trusted.overlay.origin';
  let handle;
  {
    await using overlay = await mount(WITH_HANDLES);
    handle = await client.nameToHandle({ path: overlay.file('f') });
    for (const name of ['f', 'other']) await client.chmod({ path: overlay.file(name), mode: 0o600 });
  }
  await using overlay = await mount(WITH_HANDLES);
  const entries = (await client.readdir({ path: index })).filter((name) => !name.startsWith('#'));
  t.is(entries.length, 2);
  // Nothing of the overlay is in the cache: each is the other one now.
  const [one, other] = entries.map((name) => `${index}/${name}`);
  const marks = [
    await client.getxattr({ path: one ?? '', name: origin }),
    await client.getxattr({ path: other ?? '', name: origin }),
  ] as const;
  await client.setxattr({ path: one ?? '', name: origin, data: marks[1] });
  await client.setxattr({ path: other ?? '', name: origin, data: marks[0] });
  t.is(await whereTo(client, overlay.path, handle), 'ESTALE');
  await client.setxattr({ path: one ?? '', name: origin, data: marks[0] });
  await client.setxattr({ path: other ?? '', name: origin, data: marks[1] });
  t.not(await whereTo(client, overlay.path, handle), 'ESTALE', 'as it was');
});

guestTest(
  'a handle of a directory that its server does not find by name opens nothing (E17)',
  async (t, guest) => {
    await using client = await guest.client();
    await using layers = await layersOnFuse(guest, client);
    const { fuse } = layers;
    await fuse.fail({ opcode: ['FORGET', 'BATCH_FORGET'] }, 'ENOENT');
    await fill(client, fuse.backing('lower'), ['d/', 'd/s/']);
    let handle;
    {
      await using overlay = await layers.mount(WITH_HANDLES);
      handle = await client.nameToHandle({ path: overlay.file('d/s') });
    }
    await using overlay = await layers.mount(WITH_HANDLES);
    const permit = await fuse.fail({ opcode: 'LOOKUP', path: '/lower/d' }, 'EUCLEAN');
    t.is(await whereTo(client, overlay.path, handle), 'ESTALE');
    await permit();
    t.is(await whereTo(client, overlay.path, handle), '/d/s', 'later');
  },
);

guestTest(
  'a handle below a directory that has become opaque without the overlay opens nothing (E17)',
  async (t, guest) => {
    await using client = await guest.client();
    const { upper, mount } = await handleLayers(guest, client);
    let handles;
    {
      await using overlay = await mount(WITH_HANDLES);
      const of = (name: string) => client.nameToHandle({ path: overlay.file(name) });
      handles = { d: await of('d'), s: await of('d/s') };
      await client.chmod({ path: overlay.file('d'), mode: 0o700 });
    }
    await client.setxattr({ path: `${upper}/d`, name: 'trusted.overlay.opaque', data: 'y' });
    await using overlay = await mount(WITH_HANDLES);
    const after = (await guest.kernelLog()).at(-1)?.seq;
    t.is(await whereTo(client, overlay.path, handles.s), 'ESTALE');
    const said = await refusals(guest, after);
    t.is(said.length, 1);
    t.regex(said[0] ?? '', /err=-5\)$/, 'what is there is not what the handle is of: EIO');
    t.is(await whereTo(client, overlay.path, handles.d), '/d', 'the directory itself');
    t.deepEqual(await client.readdir({ path: overlay.file('d') }), []);
  },
);

/** Of an overlay's handle: before its `struct ovl_fb`, and that without the handle of the layer's filesystem. */
const [PADDING, HEAD] = [3, 21];

guestTest(
  'a handle that somebody has made of what is no file of the lower layer is stale, and nothing is kept of it (E17)',
  async (t, guest) => {
    await using client = await guest.client();
    const { work, upper, lower, mount } = await handleLayers(guest, client);
    await using overlay = await mount(WITH_HANDLES);
    // In use, as the upper file that it is.
    const fd = await client.open({ path: overlay.file('new'), flags: 'O_RDWR|O_CREAT' });
    const { type, handle } = await client.nameToHandle({ path: overlay.file('f') });
    const after = (await guest.kernelLog()).at(-1)?.seq;
    for (const [what, path, where] of [
      ['the work directory', work, 'ESTALE'],
      ['a file of the upper layer', `${upper}/new`, 'ESTALE'],
      ['a directory of the lower layer', `${lower}/d/s`, '/d/s'],
    ] as const) {
      const real = await client.nameToHandle({ path });
      const made = concat(handle.subarray(0, PADDING + HEAD), real.handle);
      t.is(made.length, handle.length, 'both are of ext4');
      t.is(await whereTo(client, overlay.path, { type, handle: made }), where, what);
    }
    await client.close({ fd });
    t.deepEqual(await refusals(guest, after), [], 'nothing is said of a handle that is stale');
  },
);
