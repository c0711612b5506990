import { text } from '../lib/bytes.ts';
import { guestTest } from '../lib/guest-test.ts';
import { fill, layersOf, over } from '../lib/layers.ts';
import { layersOnFuse } from '../lib/overlay-on-fuse.ts';

/** Names that were removed are no names, and only a character device of the number 0:0 is a whiteout. */

guestTest('a rename that replaces nothing takes a name that was removed', async (t, guest) => {
  await using client = await guest.client();
  const layers = await layersOf(guest, 2);
  const [lower = ''] = layers;
  await fill(client, lower, ['gone1', 'gone2', 'gone3', 'low', 'kept', 'gone-dir/']);
  await using overlay = await over(guest, client, layers);
  await fill(client, overlay.path, ['new', 'dir/', 'dir/f']);
  for (const name of ['gone1', 'gone2', 'gone3']) await client.unlink({ path: overlay.file(name) });
  await client.rmdir({ path: overlay.file('gone-dir') });
  const move = (from: string, to: string) =>
    client.errno.rename({ from: overlay.file(from), to: overlay.file(to), flags: 'RENAME_NOREPLACE' });
  t.is(await move('new', 'kept'), 'EEXIST', 'a lower name that is there');
  t.is(await move('low', 'new'), 'EEXIST', 'an upper name that is there');
  t.is(await move('new', 'gone1'), 'ok', 'an upper file to a removed name');
  t.is(await move('low', 'gone2'), 'ok', 'a lower file to a removed name');
  t.is(await move('dir', 'gone-dir'), 'ok', 'a directory to a removed name');
  t.is(await move('gone1', 'fresh'), 'ok', 'a name that there never was');
  t.is(await move('kept', 'free'), 'ok', 'a lower file to such a name');
  t.deepEqual(await client.readdir({ path: overlay.path }), ['free', 'fresh', 'gone-dir', 'gone2']);
  for (const [name, data] of [
    ['free', 'kept'],
    ['fresh', 'new'],
    ['gone2', 'low'],
    ['gone-dir/f', 'dir/f'],
  ] as const) {
    t.is(text(await client.readFile({ path: overlay.file(name) })), `${data} at the bottom`, name);
  }
});

guestTest(
  'the upper filesystem is not asked to replace nothing where an overlay has a whiteout',
  async (t, guest) => {
    await using client = await guest.client();
    await using layers = await layersOnFuse(guest, client);
    await client.writeFile({ path: layers.fuse.backing('lower/gone'), data: 'below' });
    await using overlay = await layers.mount();
    await client.writeFile({ path: overlay.file('new'), data: 'new' });
    await client.unlink({ path: overlay.file('gone') });
    const to = overlay.file('gone');
    const moved = await client.errno.rename({ from: overlay.file('new'), to, flags: 'RENAME_NOREPLACE' });
    t.is(moved, 'ok', 'where the server finds a device');
    t.is(text(await client.readFile({ path: to })), 'new');
  },
);

/** By its name: type and number, and what mknod gives on an overlay. */
const NODES: Readonly<Record<string, readonly [type: number, major: number, minor: number, gives: string]>> =
  {
    'a character device 0:0': [0o020_000, 0, 0, 'EPERM'],
    'a character device 0:1': [0o020_000, 0, 1, 'ok'],
    'a character device 1:0': [0o020_000, 1, 0, 'ok'],
    'a block device 0:0': [0o060_000, 0, 0, 'ok'],
    'a fifo': [0o010_000, 0, 0, 'ok'],
    'a socket': [0o140_000, 0, 0, 'ok'],
  };

guestTest(
  'of all nodes only that which would be a whiteout cannot be made on an overlay',
  async (t, guest) => {
    await using client = await guest.client();
    const layers = await layersOf(guest, 2);
    const [lower = ''] = layers;
    await fill(
      client,
      lower,
      Object.keys(NODES).map((name) => `${name}, removed`),
    );
    await using overlay = await over(guest, client, layers);
    const made: string[] = [];
    for (const [name, [type, major, minor, gives]] of Object.entries(NODES)) {
      await client.unlink({ path: overlay.file(`${name}, removed`) });
      // Where nothing was, and where a whiteout is.
      for (const each of [name, `${name}, removed`]) {
        const path = overlay.file(each);
        t.is(await client.errno.mknod({ path, mode: type | 0o600, major, minor }), gives, each);
        if (gives !== 'ok') continue;
        made.push(each);
        const { mode, rdevMajor, rdevMinor } = await client.lstat({ path });
        t.deepEqual([mode & 0o170_000, rdevMajor, rdevMinor], [type, major, minor], `${each}: what it is`);
      }
    }
    t.deepEqual(await client.readdir({ path: overlay.path }), made.toSorted());
  },
);
