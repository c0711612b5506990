import { guestTest } from '../lib/guest-test.ts';
import { fill, layersOf, over } from '../lib/layers.ts';

/** Device and inode numbers on an overlay whose layers are all on one filesystem. */

guestTest(
  'with all layers on one filesystem there is one device, and numbers stay over copy-up and another mount',
  async (t, guest) => {
    await using client = await guest.client();
    const layers = await layersOf(guest, 2);
    const [lower = '', upper = ''] = layers;
    const names = ['kept', 'copied', 'd', 'd/copied'];
    await fill(client, lower, ['kept', 'copied', 'd/', 'd/copied']);
    const native: { readonly name: string; readonly ino: number }[] = [];
    for (const name of names)
      native.push({ name, ino: (await client.stat({ path: `${lower}/${name}` })).ino });
    const check = async (overlay: { path: string; file: (name: string) => string }, when: string) => {
      const { devMajor, devMinor } = await client.stat({ path: overlay.path });
      for (const { name, ino } of native) {
        const stat = await client.stat({ path: overlay.file(name) });
        t.deepEqual([stat.devMajor, stat.devMinor], [devMajor, devMinor], `${when}: the device of ${name}`);
        t.is(stat.ino, ino, `${when}: the number of ${name} is that of the lower layer`);
      }
    };
    {
      await using overlay = await over(guest, client, layers);
      await check(overlay, 'at first');
      for (const { name, ino } of native.filter(({ name }) => name.endsWith('copied'))) {
        await client.chmod({ path: overlay.file(name), mode: 0o600 });
        t.not((await client.stat({ path: `${upper}/${name}` })).ino, ino, `${name} is another file now`);
      }
      await check(overlay, 'copied up');
    }
    await using overlay = await over(guest, client, layers);
    await check(overlay, 'mounted again');
  },
);
