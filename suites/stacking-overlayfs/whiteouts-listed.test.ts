import { guestTest } from '../lib/guest-test.ts';
import { isListedInParts } from '../lib/list-in-parts.ts';
import { fill, hideByAttribute, layersOf, over } from '../lib/layers.ts';

/** Whiteouts of a directory: none of its names, wherever the directory is from, and however it is read. */

const CHARACTER_DEVICE = 0o020_000;

guestTest(
  'a merged directory in which names were removed is read on from where each of its parts began',
  async (t, guest) => {
    await using client = await guest.client();
    const layers = await layersOf(guest, 2);
    const [lower = '', upper = ''] = layers;
    const names = Array.from({ length: 16 }, (_each, nth) => `name-${10 + nth}`);
    await fill(client, lower, names);
    await using overlay = await over(guest, client, layers);
    const removed = names.filter((_name, nth) => nth % 3 === 1);
    for (const name of removed) await client.unlink({ path: overlay.file(name) });
    t.deepEqual(await client.readdir({ path: upper }), removed, 'whiteouts');
    const kept = names.filter((name) => !removed.includes(name));
    await isListedInParts(t, client, { path: overlay.path, names: kept });
  },
);

guestTest(
  'a directory of lower layers alone whose only names are whiteouts there is empty, and is removed',
  async (t, guest) => {
    await using client = await guest.client();
    const layers = await layersOf(guest, 3);
    const [bottom = '', middle = '', upper = ''] = layers;
    await fill(client, bottom, ['d/', 'd/a', 'd/b']);
    await fill(client, middle, ['d/']);
    for (const name of ['a', 'b']) {
      await client.mknod({ path: `${middle}/d/${name}`, mode: CHARACTER_DEVICE });
    }
    await using overlay = await over(guest, client, layers);
    t.deepEqual(await client.readdir({ path: overlay.file('d') }), [], 'no names');
    t.is(await client.errno.rmdir({ path: overlay.file('d') }), 'ok', 'removed');
    t.is(await client.errno.lstat({ path: overlay.file('d') }), 'ENOENT');
    t.deepEqual(await client.readdir({ path: upper }), ['d'], 'a whiteout for it');
    t.deepEqual(await client.readdir({ path: `${middle}/d` }), ['a', 'b'], 'the layer is as it was');
  },
);

guestTest(
  'whiteouts of a directory that was copied up from somewhere unknown are not listed',
  async (t, guest) => {
    await using client = await guest.client();
    const layers = await layersOf(guest, 2);
    const [, upper = ''] = layers;
    for (const name of ['copied', 'new']) {
      await fill(client, upper, [`${name}/`, `${name}/f`]);
      await client.mknod({ path: `${upper}/${name}/gone`, mode: CHARACTER_DEVICE });
    }
    // What a layer without file handles leaves of a copy-up: that it was one.
    await client.setxattr({ path: `${upper}/copied`, name: 'trusted.overlay.origin', data: '' });
    await using overlay = await over(guest, client, layers);
    t.deepEqual(await client.readdir({ path: overlay.file('copied') }), ['f'], 'one that was copied up');
    t.deepEqual(await client.readdir({ path: overlay.file('new') }), ['f', 'gone'], 'one that was not');
    await client.unlink({ path: overlay.file('copied/f') });
    t.is(await client.errno.rmdir({ path: overlay.file('copied') }), 'ok', 'it is empty');
  },
);

guestTest(
  'that a directory has whiteouts that are attributes is believed of a lower layer, not of the upper one',
  async (t, guest) => {
    guest.needs(guest.expected.overlaysWithDataLayers, 'whiteouts that are attributes');
    await using client = await guest.client();
    const [bottom = '', middle = '', upper = ''] = await layersOf(guest, 3);
    for (const [at, name] of [
      [middle, 'lower'],
      [upper, 'upper'],
    ] as const) {
      await fill(client, bottom, [`${name}/`, `${name}/f`]);
      await fill(client, at, [`${name}/`]);
      await hideByAttribute(client, `${at}/${name}`, 'w');
    }
    await using overlay = await over(guest, client, [bottom, middle, upper]);
    const list = (name: string) => client.readdir({ path: overlay.file(name) });
    t.deepEqual(await list('lower'), ['f'], 'marked in the lower layer');
    t.deepEqual(await list('upper'), ['f', 'w'], 'marked in the upper layer');
  },
);

guestTest(
  'whiteouts of a directory that one lower layer alone has are not listed if it was copied up when that was the upper one',
  async (t, guest) => {
    await using client = await guest.client();
    const layers = await layersOf(guest, 3);
    const [, middle = '', upper = ''] = layers;
    for (const name of ['copied', 'new']) {
      await fill(client, middle, [`${name}/`, `${name}/f`]);
      await client.mknod({ path: `${middle}/${name}/gone`, mode: CHARACTER_DEVICE });
    }
    await client.setxattr({ path: `${middle}/copied`, name: 'trusted.overlay.origin', data: '' });
    await using overlay = await over(guest, client, layers);
    t.deepEqual(await client.readdir({ path: overlay.file('copied') }), ['f'], 'one that was copied up');
    t.deepEqual(await client.readdir({ path: overlay.file('new') }), ['f', 'gone'], 'one that was not');
    t.deepEqual(await client.readdir({ path: upper }), []);
  },
);

guestTest(
  'a directory whose only names are whiteouts that are attributes is empty, and is removed',
  async (t, guest) => {
    guest.needs(guest.expected.overlaysWithDataLayers, 'whiteouts that are attributes');
    await using client = await guest.client();
    const layers = await layersOf(guest, 3);
    const [bottom = '', middle = '', upper = ''] = layers;
    await fill(client, bottom, ['d/', 'd/a']);
    await fill(client, middle, ['d/']);
    await hideByAttribute(client, `${middle}/d`, 'a');
    await using overlay = await over(guest, client, layers);
    t.deepEqual(await client.readdir({ path: overlay.file('d') }), [], 'no names');
    t.is(await client.errno.stat({ path: overlay.file('d/a') }), 'ENOENT', 'nothing under the name');
    t.is(await client.errno.rmdir({ path: overlay.file('d') }), 'ok', 'it is removed');
    t.deepEqual(await client.readdir({ path: upper }), ['d'], 'a whiteout for it');
  },
);

guestTest(
  'whiteouts that are attributes hide names of the layers below theirs, whichever lower layer has them',
  async (t, guest) => {
    guest.needs(guest.expected.overlaysWithDataLayers, 'whiteouts that are attributes');
    await using client = await guest.client();
    const layers = await layersOf(guest, 4);
    const [bottom = '', second = '', first = ''] = layers;
    await fill(client, bottom, ['d/', 'd/a', 'd/b', 'd/kept']);
    for (const [at, name] of [
      [first, 'a'],
      [second, 'b'],
    ] as const) {
      await fill(client, at, ['d/']);
      await hideByAttribute(client, `${at}/d`, name);
    }
    await using overlay = await over(guest, client, layers);
    t.deepEqual(await client.readdir({ path: overlay.file('d') }), ['kept'], 'what is listed');
    for (const name of ['a', 'b']) {
      t.is(await client.errno.stat({ path: overlay.file(`d/${name}`) }), 'ENOENT', `${name} is not there`);
    }
  },
);
