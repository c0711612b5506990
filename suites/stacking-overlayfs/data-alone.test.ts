import { text } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';
import { fill, layersOf } from '../lib/layers.ts';
import { metadataAlone } from '../lib/metadata-alone.ts';
import { upperOn } from '../lib/stack.ts';
import type { StackedMount } from '../lib/stacked-mount.ts';

/** Layers of data alone: which metadata lead there, in whose name they are looked for, and what is told before. */

const STRANGER = { uid: 4000, gid: 4000 };

/** A layer of metadata and one of data alone, with an upper layer above. */
async function dataAlone(guest: TestGuest) {
  guest.needs(guest.expected.overlaysWithDataLayers, 'layers of data alone');
  const [data = '', meta = ''] = await layersOf(guest, 2);
  const { upper, work } = await upperOn(guest);
  const options = 'metacopy=on,redirect_dir=on';
  const mount = (client: Client): Promise<StackedMount> =>
    guest.mountOverlay({ lower: `${meta}::${data}`, upper, work, options }, client);
  return { data, meta, upper, mount };
}

/** What the metadata of the lower layer say, to which those of the upper one lead from the root. */
const SECOND_REDIRECTS: readonly (readonly [redirect: string | undefined, stat: string])[] = [
  ['/e/k', 'ok'],
  ['k', 'EIO'],
  [undefined, 'EIO'],
];

guestTest(
  'of several redirects it is the last that has to lead to the data from the root (E4, E16)',
  async (t, guest) => {
    await using client = await guest.client();
    const { data, meta, upper, mount } = await dataAlone(guest);
    await fill(client, data, ['e/', 'e/k', 'e/n2']);
    await client.mkdir({ path: `${meta}/e` });
    for (const [nth, [redirect]] of SECOND_REDIRECTS.entries()) {
      await metadataAlone(client, `${meta}/e/n${nth}`, { redirect });
      await metadataAlone(client, `${upper}/m${nth}`, { redirect: `/e/n${nth}` });
    }
    await using overlay = await mount(client);
    for (const [nth, [redirect, expected]] of SECOND_REDIRECTS.entries()) {
      const path = overlay.file(`m${nth}`);
      const what = `the second redirect: ${redirect ?? 'none'}`;
      t.is(await client.errno.lstat({ path }), expected, what);
      if (expected === 'ok') t.is(text(await client.readFile({ path })), 'e/k at the bottom', what);
    }
  },
);

guestTest('the way to data in a layer of data alone has no symbolic link in it (E4)', async (t, guest) => {
  await using client = await guest.client();
  const { data, meta, mount } = await dataAlone(guest);
  await fill(client, data, ['d/', 'd/inner']);
  await client.symlink({ path: `${data}/linked`, target: 'd' });
  await metadataAlone(client, `${meta}/direct`, { redirect: '/d/inner' });
  await metadataAlone(client, `${meta}/by-link`, { redirect: '/linked/inner' });
  await using overlay = await mount(client);
  const opens = (name: string) => client.errno.open({ path: overlay.file(name), flags: 'O_RDONLY' });
  t.is(await opens('direct'), 'ok', 'through directories');
  t.is(await opens('by-link'), 'ELOOP', 'through a link to a directory');
});

guestTest(
  'who reads data of a layer of data alone needs no rights to go there, who has mounted the overlay does',
  async (t, guest) => {
    await using client = await guest.client();
    const { data, meta, upper, mount } = await dataAlone(guest);
    await fill(client, data, ['closed/', 'closed/f']);
    await client.chmod({ path: `${data}/closed`, mode: 0o700 });
    await metadataAlone(client, `${meta}/f`, {
      redirect: '/closed/f',
      size: 'closed/f at the bottom'.length,
    });
    await client.chmod({ path: upper, mode: 0o755 });
    await using overlay = await mount(client);
    await using stranger = await guest.client();
    await stranger.chdir({ path: overlay.path });
    await stranger.setCredentials(STRANGER);
    // The first that opens it: where the data are is looked up then.
    t.is(await stranger.errno.readFile({ path: 'f' }), 'ok');
    t.is(text(await client.readFile({ path: overlay.file('f') })), 'closed/f at the bottom');
  },
);

guestTest(
  'of a file whose data nobody has looked for the space is told that they would take at least',
  async (t, guest) => {
    await using client = await guest.client();
    const { data, meta, mount } = await dataAlone(guest);
    await fill(client, data, ['contents']);
    const sizes = [0, 1, 4096, 4097, 10_000];
    for (const size of sizes) {
      await metadataAlone(client, `${meta}/of-${size}`, { redirect: '/contents', size });
    }
    await using overlay = await mount(client);
    for (const size of sizes) {
      const stat = await client.stat({ path: overlay.file(`of-${size}`) });
      t.is(stat.size, size);
      const whole = Math.ceil(size / stat.blksize) * stat.blksize;
      t.is(stat.blocks, whole / 512, `${size} bytes in whole blocks of ${stat.blksize}`);
    }
  },
);
