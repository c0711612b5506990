import type { Client } from '../lib/client.ts';
import { guestTest } from '../lib/guest-test.ts';
import { fill, layersOf, over } from '../lib/layers.ts';
import { upperOnFuse } from '../lib/overlay-on-fuse.ts';

/**
 * Who watches a file of an overlay (inotify(7)) is told that it is gone when it has lost its last name, and not before. A
 * removal that is refused takes no name away.
 */

type Change = (client: Client, at: string) => Promise<unknown>;

const removed =
  (name: string): Change =>
  (client, at) =>
    name.endsWith('-dir')
      ? client.rmdir({ path: `${at}/${name}` })
      : client.unlink({ path: `${at}/${name}` });
const replaced =
  (name: string, by: string): Change =>
  (client, at) =>
    client.rename({ from: `${at}/${by}`, to: `${at}/${name}` });
const exchanged =
  (name: string, other: string): Change =>
  (client, at) =>
    client.rename({ from: `${at}/${other}`, to: `${at}/${name}`, flags: 'RENAME_EXCHANGE' });

/** One after the other: what is done, the name that is watched meanwhile, and whether it is gone then. */
const CHANGES: readonly (readonly [what: string, watched: string, change: Change, gone: boolean])[] = [
  ['a lower file is removed', 'low1', removed('low1'), true],
  ['an upper file is removed', 'up1', removed('up1'), true],
  ['a copied file is removed', 'copied', removed('copied'), true],
  ['a lower directory is removed', 'low1-dir', removed('low1-dir'), true],
  ['an upper directory is removed', 'up1-dir', removed('up1-dir'), true],
  ['a lower file is replaced', 'low2', replaced('low2', 'new1'), true],
  ['an upper file is replaced', 'up2', replaced('up2', 'new2'), true],
  ['a lower directory is replaced', 'low2-dir', replaced('low2-dir', 'new1-dir'), true],
  ['an upper directory is replaced', 'up2-dir', replaced('up2-dir', 'new2-dir'), true],
  ['an upper file changes places', 'up3', exchanged('up3', 'low3'), false],
  ['an upper directory changes places', 'up3-dir', exchanged('up3-dir', 'new3-dir'), false],
  ['the first of three names is removed', 'first', removed('first'), false],
  ['the second of three names is replaced', 'third', replaced('second', 'new3'), false],
  ['the last of three names is removed', 'third', removed('third'), true],
];

guestTest(
  'who watches a file of an overlay is told that it is gone with its last name, and not before',
  async (t, guest) => {
    await using client = await guest.client();
    const layers = await layersOf(guest, 2);
    const [lower = ''] = layers;
    await fill(client, lower, ['low1', 'low2', 'low3', 'low1-dir/', 'low2-dir/', 'copied']);
    await using overlay = await over(guest, client, layers);
    await fill(client, overlay.path, ['up1', 'up2', 'up3', 'new1', 'new2', 'new3', 'first']);
    for (const kind of ['up', 'new']) {
      await fill(client, overlay.path, [`${kind}1-dir/`, `${kind}2-dir/`, `${kind}3-dir/`]);
    }
    await client.chmod({ path: overlay.file('copied'), mode: 0o600 });
    for (const name of ['second', 'third']) {
      await client.link({ from: overlay.file('first'), to: overlay.file(name) });
      await client.stat({ path: overlay.file(name) });
    }
    for (const [what, watched, change, gone] of CHANGES) {
      const fd = await client.inotify_init({});
      const mask = 'IN_ALL_EVENTS';
      await client.inotify_add_watch({ fd, path: overlay.file(watched), mask });
      await change(client, overlay.path);
      const told = (await client.inotify_read({ fd })).flatMap(({ names }) => names.split('|'));
      t.is(told.includes('delete_self'), gone, `${what}: ${told.join(', ')}`);
      await client.close({ fd });
    }
    // A file that has no name left gets none any more.
    for (const name of ['up3', 'low3']) {
      const to = overlay.file(`${name}-linked`);
      t.is(
        await client.errno.link({ from: overlay.file(name), to }),
        'ok',
        `${name}: linked where it is now`,
      );
    }
  },
);

guestTest(
  'a file whose removal the server of the upper layer refuses has its name still, and gets others',
  async (t, guest) => {
    await using client = await guest.client();
    await using stack = await upperOnFuse(guest, client);
    const { overlay, fuse, lower } = stack;
    await fill(client, lower, ['low']);
    for (const [name, opcode] of [
      ['old', ['UNLINK']],
      ['low', ['RENAME', 'RENAME2']],
    ] as const) {
      const path = overlay.file(name);
      // While it is open, it is one and the same file of the overlay.
      const fd = await client.open({ path, flags: 'O_RDONLY' });
      const permit = await fuse.fail({ opcode }, 'EDQUOT');
      t.is(await client.errno.unlink({ path }), 'EDQUOT', `${name}: refused`);
      await permit();
      const link = { from: path, to: `${path}-2` };
      t.is(await client.errno.link(link), 'ok', `${name}: a file that has a name can be linked`);
      await client.close({ fd });
      for (const each of [link.from, link.to]) {
        t.is(await client.errno.unlink({ path: each }), 'ok', `${name}: removed in the end`);
      }
    }
  },
);
