import type { Client } from '../lib/client.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';
import { fill, hideByAttribute, layersOf, over } from '../lib/layers.ts';
import { upperOn } from '../lib/stack.ts';

/** What is left of a name that is removed, where who removes it may not look into the layers, and where these have whiteouts. */

const STRANGER = { uid: 4000, gid: 4000 };

/** A process in that directory that belongs to nobody who has rights there. */
async function strangerIn(guest: TestGuest, path: string): Promise<Client> {
  const stranger = await guest.client();
  await stranger.chdir({ path });
  await stranger.setCredentials(STRANGER);
  return stranger;
}

guestTest(
  'whether a removed name is below is looked up with the rights of who mounted the overlay, and no whiteout is left for nothing',
  async (t, guest) => {
    await using client = await guest.client();
    const layers = await layersOf(guest, 2);
    const [lower = '', upper = ''] = layers;
    await fill(client, lower, ['d/', 'd/below']);
    // Closed in the layer, open on the overlay.
    await client.chmod({ path: `${lower}/d`, mode: 0o700 });
    await using overlay = await over(guest, client, layers);
    await client.chmod({ path: overlay.path, mode: 0o755 });
    await client.chmod({ path: overlay.file('d'), mode: 0o777 });
    await using stranger = await strangerIn(guest, overlay.path);
    await stranger.writeFile({ path: 'd/new', data: 'above' });
    for (const name of ['d/new', 'd/below']) t.is(await stranger.errno.unlink({ path: name }), 'ok', name);
    t.deepEqual(await client.readdir({ path: `${upper}/d` }), ['below'], 'a whiteout of what is below alone');
    t.deepEqual(await client.readdir({ path: overlay.file('d') }), []);
  },
);

guestTest(
  'who removes the last name of a file needs no rights to the index for its entry to go (E17)',
  async (t, guest) => {
    await using client = await guest.client();
    const [lower = ''] = await layersOf(guest, 1);
    await fill(client, lower, ['a']);
    await client.link({ from: `${lower}/a`, to: `${lower}/b` });
    const layers = await upperOn(guest);
    await using overlay = await guest.mountOverlay({ lower, ...layers, options: 'index=on' }, client);
    await client.chmod({ path: overlay.path, mode: 0o777 });
    const entries = async () => {
      const names = await client.readdir({ path: `${layers.work}/index` });
      return names.filter((name) => !name.startsWith('#')).length;
    };
    await using stranger = await strangerIn(guest, overlay.path);
    for (const [name, left] of [
      ['a', 1],
      ['b', 0],
    ] as const) {
      t.is(await stranger.errno.unlink({ path: name }), 'ok', name);
      t.is(await entries(), left, `entries of the index without ${name}`);
    }
  },
);

guestTest(
  'what a whiteout below that is an attribute has removed needs none in the upper layer',
  async (t, guest) => {
    guest.needs(guest.expected.overlaysWithDataLayers, 'whiteouts that are attributes');
    await using client = await guest.client();
    const layers = await layersOf(guest, 3);
    const [bottom = '', middle = '', upper = ''] = layers;
    await fill(client, bottom, ['d/', 'd/hidden', 'd/there']);
    await fill(client, middle, ['d/']);
    await hideByAttribute(client, `${middle}/d`, 'hidden');
    await using overlay = await over(guest, client, layers);
    for (const name of ['hidden', 'there']) {
      await client.writeFile({ path: overlay.file(`d/${name}`), data: 'above' });
      await client.unlink({ path: overlay.file(`d/${name}`) });
    }
    t.deepEqual(await client.readdir({ path: `${upper}/d` }), ['there'], 'whiteouts of the upper layer');
    t.deepEqual(await client.readdir({ path: overlay.file('d') }), []);
  },
);
