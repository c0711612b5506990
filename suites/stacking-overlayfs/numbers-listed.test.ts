import type { Client } from '../lib/client.ts';
import { guestTest } from '../lib/guest-test.ts';
import { fill, layersOf, over } from '../lib/layers.ts';

/**
 * Directories of the upper layer in which there are files that come from below: such a file is listed with the number of
 * the lower one, any other with its own, whatever was under its name before.
 */

type Change = (client: Client, at: string) => Promise<unknown>;

const moved =
  (from: string, to: string, flags?: 'RENAME_EXCHANGE'): Change =>
  (client, at) =>
    client.rename({ from: `${at}/${from}`, to: `${at}/${to}`, ...(flags && { flags }) });

/** One after the other, with `one/` and so on, `three/x` and `new1` and so on in the upper layer, and `low1` and so on in the lower one. */
const CHANGES: readonly (readonly [what: string, change: Change])[] = [
  ['a lower file comes', moved('low1', 'one/a')],
  ['another lower file comes', moved('low2', 'one/b')],
  ['an upper file comes', moved('new1', 'one/c')],
  ['a file from below gets another name', moved('one/a', 'one/d')],
  ['a file from below goes to another directory', moved('one/d', 'two/d')],
  ['an upper file replaces one from below', moved('new2', 'one/b')],
  ['a file from below replaces an upper one', moved('low3', 'one/c')],
  ['an upper file and one from below change places', moved('one/b', 'two/d', 'RENAME_EXCHANGE')],
  ['a file from below and an upper one change places', moved('one/c', 'two/d', 'RENAME_EXCHANGE')],
  ['two change places in one directory', moved('one/b', 'one/c', 'RENAME_EXCHANGE')],
  [
    'an upper file in a directory without any and one from below change places',
    moved('three/x', 'one/c', 'RENAME_EXCHANGE'),
  ],
  ['a lower file comes to another directory', moved('low4', 'four/e')],
  [
    'a file from below is removed, and another made',
    async (client, at) => {
      await client.unlink({ path: `${at}/two/d` });
      await client.writeFile({ path: `${at}/two/d`, data: 'another' });
    },
  ],
];

guestTest(
  'a directory lists each file with its number at once when one with or without a lower one comes or goes',
  async (t, guest) => {
    await using client = await guest.client();
    const layers = await layersOf(guest, 2);
    const [lower = ''] = layers;
    await fill(client, lower, ['low1', 'low2', 'low3', 'low4']);
    const check = async (at: string, what: string): Promise<void> => {
      for (const { path, entry, ino } of await client.tree({ path: at })) {
        if (entry !== null) t.is(entry.ino, ino, `${what}: ${path}`);
      }
    };
    {
      await using overlay = await over(guest, client, layers);
      await fill(client, overlay.path, ['one/', 'two/', 'three/', 'three/x', 'four/', 'new1', 'new2']);
      for (const [what, change] of CHANGES) {
        await change(client, overlay.path);
        await check(overlay.path, what);
      }
    }
    await using overlay = await over(guest, client, layers);
    await check(overlay.path, 'mounted again');
    const names = Object.entries({ one: ['b', 'c'], two: ['d'], three: ['x'], four: ['e'] });
    for (const [name, expected] of names) {
      t.deepEqual(await client.readdir({ path: overlay.file(name) }), expected, name);
    }
  },
);

guestTest(
  'a directory gets the mark of one with files from below with the first of them, and not before',
  async (t, guest) => {
    await using client = await guest.client();
    const layers = await layersOf(guest, 2);
    const [lower = '', upper = ''] = layers;
    await fill(client, lower, ['low1', 'low2', 'low3', 'gone']);
    await using overlay = await over(guest, client, layers);
    const at = (name: string) => overlay.file(name);
    const ways = ['moved', 'linked', 'exchanged'];
    await fill(client, overlay.path, [
      ...ways.map((way) => `${way}/`),
      ...ways.map((way) => `${way}/x`),
      'new1',
      'new2',
    ]);
    const mark = (way: string) =>
      client.errno.getxattr({ path: `${upper}/${way}`, name: 'trusted.overlay.impure' });
    for (const way of ways) {
      await client.mkdir({ path: at(`${way}/sub`) });
      await client.symlink({ path: at(`${way}/symlink`), target: 'x' });
      await client.rename({ from: at(`${way}/x`), to: at(`${way}/y`) });
      await client.link({ from: at('new1'), to: at(`${way}/new1`) });
      t.is(await mark(way), 'ENODATA', `${way}: files of the upper layer`);
    }
    await client.rename({ from: at('new2'), to: at('moved/new2') });
    t.is(await mark('moved'), 'ENODATA', 'an upper file moved there');
    await client.rename({ from: at('low1'), to: at('moved/low1') });
    await client.link({ from: at('low2'), to: at('linked/low2') });
    await client.rename({ from: at('exchanged/y'), to: at('low3'), flags: 'RENAME_EXCHANGE' });
    for (const way of ways) t.is(await mark(way), 'ok', `${way}: a file from below`);
  },
);

guestTest(
  'a file from below that gets a link in a directory whose numbers are kept is listed there with its own',
  async (t, guest) => {
    await using client = await guest.client();
    const layers = await layersOf(guest, 2);
    const [lower = ''] = layers;
    await fill(client, lower, ['low1', 'low2']);
    await using overlay = await over(guest, client, layers);
    await fill(client, overlay.path, ['one/']);
    const at = (name: string) => overlay.file(name);
    const numbers = async (): Promise<(readonly [name: string, listed: unknown, ino: unknown])[]> =>
      (await client.tree({ path: at('one') }))
        .filter(({ entry }) => entry !== null)
        .map(({ path, entry, ino }) => [path, entry?.ino, ino]);
    const links = ['low1', 'low2'];
    for (const [before, name] of links.entries()) {
      await client.link({ from: at(name), to: at(`one/${name}`) });
      const listed = await numbers();
      t.is(listed.length, before + 1, `${name} is listed`);
      for (const [path, entry, ino] of listed) t.is(entry, ino, `with ${name}: the number of ${path}`);
    }
  },
);
