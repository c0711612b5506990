import { text } from '../lib/bytes.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { Client } from '../lib/client.ts';
import type { TestGuest } from '../lib/guest.ts';
import { fill, layersOf, over } from '../lib/layers.ts';
import type { StackedMount } from '../lib/stacked-mount.ts';

/** What was moved on an overlay says where it came from; what is below is looked for there, and not where it is now. */

guestTest(
  'a redirect leads to what was moved once more in the layers below, mounted again too (E16)',
  async (t, guest) => {
    await using client = await guest.client();
    const layers = await layersOf(guest, 4);
    const options = 'redirect_dir=on';
    await fill(client, layers[0] ?? '', [
      'base/',
      'base/x',
      'old/',
      'old/gone',
      'p/',
      'p/d1/',
      'p/d1/sub/',
      'p/d1/sub/y',
    ]);
    const move = async (top: number, pairs: Readonly<Record<string, string>>): Promise<void> => {
      await using overlay = await over(guest, client, layers.slice(0, top + 1), options);
      for (const [from, to] of Object.entries(pairs)) {
        await client.rename({ from: overlay.file(from), to: overlay.file(to) });
      }
    };
    {
      await using overlay = await over(guest, client, layers.slice(0, 2), options);
      await client.unlink({ path: overlay.file('old/gone') });
      await client.rmdir({ path: overlay.file('old') });
      // Opaque: what comes into it has to be looked for from the root.
      await client.mkdir({ path: overlay.file('old') });
      await client.rename({ from: overlay.file('base'), to: overlay.file('old/r') });
      await client.rename({ from: overlay.file('p/d1'), to: overlay.file('p/d2') });
    }
    {
      await using overlay = await over(guest, client, layers.slice(0, 3), options);
      const moved = await client.readFile({ path: overlay.file('old/r/x') });
      t.is(text(moved), 'base/x at the bottom', 'of a lower layer, from the root');
    }
    await move(2, { 'old/r': 't', 'p/d2/sub': 's' });
    await move(3, { t: 'p/t', s: 'u' });
    await using overlay = await over(guest, client, layers, options);
    const read = async (path: string) => text(await client.readFile({ path: overlay.file(path) }));
    t.is(await read('p/t/x'), 'base/x at the bottom', 'through a directory that hides what was below it');
    t.is(await read('u/y'), 'p/d1/sub/y at the bottom', 'through one that was renamed where it was');
    t.deepEqual(await client.readdir({ path: overlay.file('old') }), []);
    t.deepEqual(await client.readdir({ path: overlay.file('p') }), ['d2', 't']);
    t.deepEqual(await client.readdir({ path: overlay.file('p/d2') }), []);
    t.deepEqual(await client.readdir({ path: overlay.path }), ['old', 'p', 'u']);
  },
);

guestTest(
  'a redirect knows of one above it, and from where it leads when it is moved on (E16)',
  async (t, guest) => {
    await using client = await guest.client();
    const layers = await layersOf(guest, 2);
    await fill(client, layers[0] ?? '', [
      ...['p/', 'p/d1/', 'p/d1/x', 'p/d1/sub/', 'p/d1/sub/y', 'q/'],
      ...['top/', 'top/in/', 'top/in/z'],
    ]);
    {
      await using overlay = await over(guest, client, layers, 'redirect_dir=on');
      for (const [from, to] of [
        ['p/d1', 'p/d2'],
        ['p/d2/sub', 'q/s'],
        ['p/d2', 'q/d3'],
        ['top', 'p/moved'],
        ['p/moved/in', 'out'],
      ] as const) {
        await client.rename({ from: overlay.file(from), to: overlay.file(to) });
      }
    }
    await using overlay = await over(guest, client, layers, 'redirect_dir=on');
    const read = async (path: string) => text(await client.readFile({ path: overlay.file(path) }));
    t.is(await read('q/d3/x'), 'p/d1/x at the bottom', 'moved twice, within a directory and out of it');
    t.is(await read('q/s/y'), 'p/d1/sub/y at the bottom', 'moved out of what was renamed');
    t.is(await read('out/z'), 'top/in/z at the bottom', 'moved out of what was moved');
    t.deepEqual(await client.readdir({ path: overlay.file('q/d3') }), ['x']);
  },
);

async function metadataAlone(guest: TestGuest, client: Client, layers: readonly string[]) {
  const overlay = await over(guest, client, layers, 'redirect_dir=on,metacopy=on,index=on');
  /** Copied up without its data. */
  const touch = (name: string) => client.chmod({ path: overlay.file(name), mode: 0o600 });
  const move = (from: string, to: string) =>
    client.rename({ from: overlay.file(from), to: overlay.file(to) });
  const link = (from: string, to: string) => client.link({ from: overlay.file(from), to: overlay.file(to) });
  const read = async (path: string) => text(await client.readFile({ path: overlay.file(path) }));
  return { overlay, touch, move, link, read };
}

guestTest(
  'metadata that are moved or linked know where their data are, mounted again too (E4, E16)',
  async (t, guest) => {
    await using client = await guest.client();
    const layers = await layersOf(guest, 2);
    const [lower = '', upper = ''] = layers;
    const names = ['linked', 'moved', 'renamed', 'twins'];
    await fill(client, lower, [...names, 'd/']);
    for (const name of ['twin2', 'd/twin4']) {
      await client.link({ from: `${lower}/twins`, to: `${lower}/${name}` });
    }
    const wanted: Readonly<Record<string, string>> = {
      linked: 'linked',
      'd/link': 'linked',
      'd/moved': 'moved',
      'd/again': 'renamed',
      twin2: 'twins',
      'd/twin': 'twins',
      'd/twin4': 'twins',
      twin3: 'twins',
    };
    {
      const { overlay, touch, move, link } = await metadataAlone(guest, client, layers);
      await using _overlay = overlay;
      for (const name of names) await touch(name);
      await link('linked', 'd/link');
      await move('moved', 'd/moved');
      await move('renamed', 'other');
      await move('other', 'd/again');
      await move('twins', 'twin3');
      // A name of the same file, which becomes one in the upper layer only now.
      await touch('d/twin4');
      await link('twin3', 'd/twin');
    }
    for (const name of Object.keys(wanted).filter((each) => each !== 'twin2')) {
      const mark = { path: `${upper}/${name}`, name: 'trusted.overlay.metacopy' };
      t.is(await client.errno.getxattr(mark), 'ok', `${name}: metadata alone`);
    }
    const { overlay, read } = await metadataAlone(guest, client, layers);
    await using _overlay = overlay;
    for (const [name, data] of Object.entries(wanted)) t.is(await read(name), `${data} at the bottom`, name);
  },
);

guestTest(
  'metadata that are renamed where they are say the name of their data, those of a file of several names its path (E4, E16)',
  async (t, guest) => {
    await using client = await guest.client();
    const layers = await layersOf(guest, 2);
    const [lower = '', upper = ''] = layers;
    await fill(client, lower, ['d/', 'd/one', 'd/two']);
    await client.link({ from: `${lower}/d/two`, to: `${lower}/d/other` });
    await using overlay = await over(guest, client, layers, 'redirect_dir=on,metacopy=on,index=off');
    for (const name of ['one', 'two']) {
      const path = overlay.file(`d/${name}`);
      await client.chmod({ path, mode: 0o600 });
      await client.rename({ from: path, to: `${path}-moved` });
      const mark = { path: `${upper}/d/${name}-moved`, name: 'trusted.overlay.redirect' };
      t.is(text(await client.getxattr(mark)), name === 'one' ? 'one' : '/d/two', name);
    }
    // What is copied up without an index is a file of its own, with one name.
    t.is((await client.stat({ path: overlay.file('d/two-moved') })).nlink, 1);
  },
);

guestTest(
  'a redirect is followed where the mount says so, and is an error where it says not to (E16)',
  async (t, guest) => {
    await using client = await guest.client();
    const layers = await layersOf(guest, 2);
    await fill(client, layers[0] ?? '', ['old/', 'old/x', 'kept/', 'kept/y']);
    {
      await using overlay = await over(guest, client, layers, 'redirect_dir=on');
      await client.rename({ from: overlay.file('old'), to: overlay.file('new') });
    }
    {
      await using overlay = await over(guest, client, layers, 'redirect_dir=nofollow');
      t.is(await client.errno.stat({ path: overlay.file('new') }), 'EPERM', 'redirect_dir=nofollow');
      t.is(await client.errno.stat({ path: overlay.file('old') }), 'ENOENT', 'where it was it is not');
      t.is(text(await client.readFile({ path: overlay.file('kept/y') })), 'kept/y at the bottom');
    }
    await using overlay = await over(guest, client, layers, 'redirect_dir=follow');
    const moved = await client.readFile({ path: overlay.file('new/x') });
    t.is(text(moved), 'old/x at the bottom', 'redirect_dir=follow');
    const again = { from: overlay.file('kept'), to: overlay.file('moved') };
    t.is(await client.errno.rename(again), 'EXDEV', 'which makes no redirects of its own');
  },
);

guestTest(
  'directories that change places keep what is in them, and hide what is below where they come (E16)',
  async (t, guest) => {
    await using client = await guest.client();
    const layers = await layersOf(guest, 2);
    await fill(client, layers[0] ?? '', ['m/', 'm/one/', 'm/one/below', 'm/two/', 'm/two/below']);
    const list = async (overlay: StackedMount) => {
      const of = (path: string) => client.readdir({ path: overlay.file(path) });
      return [await of('m/one'), await of('m/two'), await of('new/one'), await of('new/two')];
    };
    const expected = [['above'], ['above'], ['below'], ['below']];
    {
      await using overlay = await over(guest, client, layers, 'redirect_dir=on');
      await fill(client, overlay.path, ['new/', 'new/one/', 'new/one/above', 'new/two/', 'new/two/above']);
      const exchange = (from: string, to: string) =>
        client.rename({ from: overlay.file(from), to: overlay.file(to), flags: 'RENAME_EXCHANGE' });
      await exchange('m/one', 'new/one');
      await exchange('new/two', 'm/two');
      t.deepEqual(await list(overlay), expected);
    }
    await using overlay = await over(guest, client, layers, 'redirect_dir=on');
    t.deepEqual(await list(overlay), expected, 'mounted again');
  },
);

guestTest(
  'a directory that moves in a directory of the upper layer alone gets no mark, in a merged one it does',
  async (t, guest) => {
    await using client = await guest.client();
    const layers = await layersOf(guest, 2);
    const [lower = '', upper = ''] = layers;
    await fill(client, lower, ['merged/', 'merged/low']);
    await using overlay = await over(guest, client, layers);
    await fill(client, overlay.path, ['pure/', 'pure/a/', 'pure/b/', 'pure/c/', 'pure/d/', 'pure/f']);
    const marked = (name: string) =>
      client.errno.getxattr({ path: `${upper}/${name}`, name: 'trusted.overlay.opaque' });
    const move = (from: string, to: string, flags?: 'RENAME_EXCHANGE') =>
      client.rename({
        from: overlay.file(`pure/${from}`),
        to: overlay.file(to),
        ...(flags ? { flags } : {}),
      });
    await move('a', 'pure/moved');
    t.is(await marked('pure/moved'), 'ENODATA', 'renamed');
    await move('moved', 'pure/f', 'RENAME_EXCHANGE');
    t.is(await marked('pure/f'), 'ENODATA', 'exchanged with a file');
    await move('moved', 'pure/b', 'RENAME_EXCHANGE');
    t.is(await marked('pure/moved'), 'ENODATA', 'a file exchanged with it');
    await move('c', 'merged/c');
    t.is(await marked('merged/c'), 'ok', 'renamed to a merged one');
    await client.writeFile({ path: overlay.file('merged/file'), data: '' });
    await move('d', 'merged/file', 'RENAME_EXCHANGE');
    t.is(await marked('merged/file'), 'ok', 'exchanged with a file of a merged one');
  },
);

guestTest(
  'a directory of the upper layer alone hides what is below of a name that was removed or made anew, whatever moves it there (E16)',
  async (t, guest) => {
    await using client = await guest.client();
    const layers = await layersOf(guest, 2);
    const names = ['removed', 'first', 'second'];
    await fill(
      client,
      layers[0] ?? '',
      names.flatMap((name) => [`${name}/`, `${name}/below`]),
    );
    const check = async (overlay: StackedMount, when: string): Promise<void> => {
      for (const name of names) {
        t.deepEqual(await client.readdir({ path: overlay.file(name) }), ['above'], `${name}: ${when}`);
      }
    };
    {
      await using overlay = await over(guest, client, layers);
      for (const name of names) {
        await client.unlink({ path: overlay.file(`${name}/below`) });
        await client.rmdir({ path: overlay.file(name) });
        if (name !== 'removed') await client.mkdir({ path: overlay.file(name) });
      }
      await fill(client, overlay.path, [
        'pure/',
        ...names.flatMap((name) => [`pure/${name}/`, `pure/${name}/above`]),
      ]);
      const move = (from: string, to: string, flags = '') =>
        client.rename({ from: overlay.file(from), to: overlay.file(to), flags });
      await move('pure/removed', 'removed');
      await move('pure/first', 'first', 'RENAME_EXCHANGE');
      await move('second', 'pure/second', 'RENAME_EXCHANGE');
      await check(overlay, 'at once');
    }
    await using overlay = await over(guest, client, layers);
    await check(overlay, 'mounted again');
  },
);
