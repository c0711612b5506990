import { guestTest } from '../lib/guest-test.ts';
import { fill, layersOf, over } from '../lib/layers.ts';

/** Directories of an overlay that are open while what they list changes. */

guestTest(
  'a directory that is copied up while it is open shows the names of both layers',
  async (t, guest) => {
    await using client = await guest.client();
    const layers = await layersOf(guest, 2);
    const [lower = '', upper = ''] = layers;
    await fill(client, lower, ['d/', 'd/below']);
    await using overlay = await over(guest, client, layers);
    const fd = await client.open({ path: overlay.file('d'), flags: 'O_RDONLY|O_DIRECTORY' });
    t.deepEqual(await client.readdirFd({ fd }), ['below'], 'the lower layer alone');
    await client.writeFile({ path: overlay.file('d/above'), data: '' });
    t.deepEqual(await client.readdir({ path: `${upper}/d` }), ['above'], 'copied up');
    t.deepEqual(await client.readdirFd({ fd }), ['above', 'below'], 'from its beginning again');
    await client.unlink({ path: overlay.file('d/below') });
    t.deepEqual(await client.readdirFd({ fd }), ['above'], 'one removed');
    await client.close({ fd });
  },
);

guestTest('a merged directory that is open shows what is moved to it and away from it', async (t, guest) => {
  await using client = await guest.client();
  const layers = await layersOf(guest, 2);
  const [lower = '', upper = ''] = layers;
  await fill(client, lower, ['d/', 'd/below', 'elsewhere']);
  await fill(client, upper, ['d/', 'd/above', 'new']);
  await using overlay = await over(guest, client, layers);
  const fd = await client.open({ path: overlay.file('d'), flags: 'O_RDONLY|O_DIRECTORY' });
  t.deepEqual(await client.readdirFd({ fd }), ['above', 'below']);
  const moves: readonly (readonly [from: string, to: string, names: readonly string[]])[] = [
    ['elsewhere', 'd/of-below', ['above', 'below', 'of-below']],
    ['new', 'd/of-above', ['above', 'below', 'of-above', 'of-below']],
    ['d/of-below', 'away', ['above', 'below', 'of-above']],
    ['d/above', 'gone', ['below', 'of-above']],
  ];
  for (const [from, to, names] of moves) {
    await client.rename({ from: overlay.file(from), to: overlay.file(to) });
    // First who had it open: another open would read what has changed for both.
    t.deepEqual(await client.readdirFd({ fd }), names, `${from} to ${to}: read again`);
    t.deepEqual(await client.readdir({ path: overlay.file('d') }), names, `${from} to ${to}: opened anew`);
  }
  await client.close({ fd });
});
