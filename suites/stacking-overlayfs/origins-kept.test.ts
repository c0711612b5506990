import { text } from '../lib/bytes.ts';
import { guestTest } from '../lib/guest-test.ts';
import { fill, layersOf, over } from '../lib/layers.ts';

/** What a copy in the upper layer remembers of the lower file, and what comes of that when it is mounted again. */

const [ORIGIN, NLINK] = ['trusted.overlay.origin', 'trusted.overlay.nlink'];

guestTest(
  'a copied file has the number of the lower one after another mount, also from another disk (E17)',
  async (t, guest) => {
    await using disk = await guest.spareDisk('ext4');
    await using client = await guest.client();
    const lower = await disk.directory('lower');
    const [other = '', upper = ''] = await layersOf(guest, 2);
    await fill(client, lower, ['f', 'd/']);
    await fill(client, other, ['g', 'e/']);
    const layers = { lower: [lower, other], upper, work: await guest.directory('ext4', 'work') };
    const found: Record<string, number>[] = [];
    for (const time of ['copied up', 'mounted again']) {
      await using overlay = await guest.mountOverlay({ ...layers, options: 'xino=on' }, client);
      const numbers: Record<string, number> = {};
      for (const name of ['f', 'd', 'g', 'e']) {
        const { ino } = await client.stat({ path: overlay.file(name) });
        if (time === 'copied up') await client.chmod({ path: overlay.file(name), mode: 0o700 });
        t.is((await client.stat({ path: overlay.file(name) })).ino, ino, `${name}: ${time}`);
        numbers[name] = ino;
      }
      found.push(numbers);
    }
    t.deepEqual(found[1], found[0], 'the numbers that they had before they were copied up');
  },
);

guestTest(
  'a link that the lower layer gets later is none of a file that is copied up (E17)',
  async (t, guest) => {
    await using client = await guest.client();
    const layers = await layersOf(guest, 2);
    const [lower = '', upper = ''] = layers;
    await fill(client, lower, ['a']);
    await client.link({ from: `${lower}/a`, to: `${lower}/b` });
    const counts: readonly (readonly [names: string, count: string])[] = [
      // Of the upper file, which has a name in the index besides.
      ['a', 'U+0'],
      ['b', 'U-1'],
    ];
    const work = await guest.directory('ext4', 'work');
    const mount = () => guest.mountOverlay({ lower, upper, work, options: 'index=on' }, client);
    for (const [nth, [name, count]] of counts.entries()) {
      {
        await using overlay = await mount();
        await client.chmod({ path: overlay.file(name), mode: 0o600 });
        t.is(text(await client.getxattr({ path: `${upper}/${name}`, name: NLINK })), count, `${name}: kept`);
      }
      await client.link({ from: `${lower}/a`, to: `${lower}/later${nth}` });
      await using overlay = await mount();
      t.is((await client.stat({ path: overlay.file(name) })).nlink, 2, `${name} is copied up: links`);
    }
  },
);

guestTest(
  'what is copied up of a file of two names without an index is another file, with an index later, too (E17)',
  async (t, guest) => {
    await using client = await guest.client();
    const layers = await layersOf(guest, 2);
    const [lower = '', upper = ''] = layers;
    await fill(client, lower, ['a', 'one']);
    await client.link({ from: `${lower}/a`, to: `${lower}/b` });
    {
      await using overlay = await over(guest, client, layers, 'index=off');
      for (const name of ['a', 'one']) await client.writeFile({ path: overlay.file(name), data: 'changed' });
      const known = (name: string) => client.errno.getxattr({ path: `${upper}/${name}`, name: ORIGIN });
      t.deepEqual([await known('one'), await known('a')], ['ok', 'ENODATA'], 'it says not where it is from');
    }
    {
      await using overlay = await over(guest, client, layers, 'index=on');
      await client.chmod({ path: overlay.file('b'), mode: 0o600 });
    }
    await using overlay = await over(guest, client, layers, 'index=on');
    for (const [name, data] of [
      ['b', 'a at the bottom'],
      ['a', 'changed'],
    ] as const) {
      t.is(await client.errno.stat({ path: overlay.file(name) }), 'ok', `${name} is found`);
      t.is(text(await client.readFile({ path: overlay.file(name) })), data, name);
    }
  },
);
