import { text } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';
import { fill, layersOf } from '../lib/layers.ts';
import { handleLayers, WITH_HANDLES } from '../lib/overlay-handles.ts';
import { INDEX_DIR, indexEntries, layersOnFuse } from '../lib/overlay-on-fuse.ts';
import { upperOn } from '../lib/stack.ts';

/** Files of several names below an index, of whose entries or names not all is as the overlay has made it (overlayfs.rst). */

const NLINK = 'trusted.overlay.nlink';

/** An overlay with an index over a lower file of the names `a` and `b`. */
async function twoNames(guest: TestGuest, client: Client) {
  const [lower = ''] = await layersOf(guest, 1);
  await fill(client, lower, ['a']);
  await client.link({ from: `${lower}/a`, to: `${lower}/b` });
  const layers = await upperOn(guest);
  const mount = () => guest.mountOverlay({ lower, ...layers, options: 'index=on' }, client);
  const entries = async (): Promise<string[]> => {
    const names = await client.readdir({ path: `${layers.work}/index` });
    return names.filter((name) => !name.startsWith('#')).map((name) => `${layers.work}/index/${name}`);
  };
  return { lower, ...layers, mount, entries };
}

/** What the upper file says of itself; the errno of the name that is not in the upper layer. */
const MARKS: readonly (readonly [name: string, data: string, errno: string])[] = [
  ['redirect', '/a', 'ok'],
  ['redirect', 'not/valid', 'EINVAL'],
  ['redirect', '', 'EINVAL'],
  ['metacopy', 'x', 'EIO'],
];

guestTest(
  'a file that is found by the index has to have marks that are valid, as one that is found by its name (E17)',
  async (t, guest) => {
    await using client = await guest.client();
    const layers = await twoNames(guest, client);
    {
      await using overlay = await layers.mount();
      await client.truncate({ path: overlay.file('a'), length: 1 });
    }
    t.deepEqual(await client.readdir({ path: layers.upper }), ['a']);
    for (const [mark, data, errno] of MARKS) {
      // Before 6.6 any mark of metadata is one.
      if (mark === 'metacopy' && !guest.expected.overlaysWithDataLayers) continue;
      const what = `${mark} “${data}”`;
      const attribute = { path: `${layers.upper}/a`, name: `trusted.overlay.${mark}` };
      await client.setxattr({ ...attribute, data });
      {
        await using overlay = await layers.mount();
        t.is(await client.errno.lstat({ path: overlay.file('b') }), errno, what);
      }
      await client.removexattr(attribute);
      await using overlay = await layers.mount();
      t.is((await client.lstat({ path: overlay.file('b') })).size, 1, `${what}, taken away`);
    }
  },
);

guestTest(
  'a file of which more names are left than were counted stays in the index when the count ends, and is counted anew (E17)',
  async (t, guest) => {
    await using client = await guest.client();
    const layers = await twoNames(guest, client);
    await client.link({ from: `${layers.lower}/a`, to: `${layers.lower}/c` });
    {
      await using overlay = await layers.mount();
      for (const name of ['a', 'c']) await client.chmod({ path: overlay.file(name), mode: 0o604 });
      t.is((await client.stat({ path: overlay.file('a') })).nlink, 3);
    }
    const count = async () => {
      const [entry = '', ...more] = await layers.entries();
      t.deepEqual(more, []);
      return { path: entry, name: NLINK };
    };
    // Three of the upper file, with the one in the index, and one less.
    await client.setxattr({ ...(await count()), data: 'U-1' });
    const left = async (path: string) => {
      t.like(await client.stat({ path }), { nlink: 1, mode: 0o100_604 });
      t.is(text(await client.readFile({ path })), 'a at the bottom');
    };
    {
      await using overlay = await layers.mount();
      for (const name of ['a', 'b'])
        t.is(await client.errno.unlink({ path: overlay.file(name) }), 'ok', name);
      t.is((await client.stat({ path: `${layers.upper}/c` })).nlink, 2, 'its name and the one in the index');
      t.is(text(await client.getxattr(await count())), 'U-1', 'all but the one in the index');
      await left(overlay.file('c'));
    }
    await using overlay = await layers.mount();
    await left(overlay.file('c'));
    await client.unlink({ path: overlay.file('c') });
    t.deepEqual(await layers.entries(), [], 'the last name is gone, and so is the entry');
    t.deepEqual(await client.readdir({ path: overlay.path }), []);
  },
);

guestTest(
  'an entry that its server does not find or remove stays in the index, which is told, and the name is gone (E17)',
  async (t, guest) => {
    await using client = await guest.client();
    await using layers = await layersOnFuse(guest, client);
    const { fuse } = layers;
    const names = ['found', 'removed', 'asked'];
    await fill(client, fuse.backing('lower'), names);
    for (const name of names)
      await client.link({ from: fuse.file(`lower/${name}`), to: fuse.file(`lower/${name}-2`) });
    {
      await using overlay = await layers.mount('index=on');
      /** The path of the entry of a file that has one name left, and is copied up. */
      const entryOf = async (name: string): Promise<string> => {
        const before = await indexEntries(client, fuse);
        for (const each of [name, `${name}-2`]) await client.chmod({ path: overlay.file(each), mode: 0o600 });
        await client.unlink({ path: overlay.file(`${name}-2`) });
        const [entry = ''] = (await indexEntries(client, fuse)).filter((each) => !before.includes(each));
        return `/${INDEX_DIR}/${entry}`;
      };
      const asked = await entryOf('asked');
      const position = await fuse.position();
      await client.unlink({ path: overlay.file('asked') });
      // The last question is that of who is to remove it; those before are whether it still is what it was.
      const questions = (await fuse.requests({ opcode: 'LOOKUP', path: asked, after: position })).length;
      t.not(questions, 0);
      const kept: string[] = [];
      for (const [what, opcode, nth] of [
        ['found', 'LOOKUP', questions],
        ['removed', 'UNLINK', 1],
      ] as const) {
        const path = await entryOf(what);
        kept.push(path);
        const after = (await guest.kernelLog()).at(-1)?.seq;
        const permit = await fuse.rule({
          match: { opcode, path },
          nth,
          action: { do: 'error', errno: 'EDQUOT' },
        });
        t.is(await client.errno.unlink({ path: overlay.file(what) }), 'ok', `not ${what}`);
        await permit();
        t.is(await client.errno.lstat({ path: overlay.file(what) }), 'ENOENT', `not ${what}: the name`);
        t.is(await client.errno.lstat({ path: fuse.backing(path) }), 'ok', `not ${what}: the entry`);
        const said = (await guest.kernelLog(after)).map((record) => record.text);
        const told = said.some((line) => /cleanup index of '.*' failed \(-122\)/.test(line));
        t.true(told, `not ${what}: ${said.join('; ')}`);
      }
      t.is((await indexEntries(client, fuse)).length, kept.length);
    }
    await using overlay = await layers.mount('index=on');
    t.deepEqual(await indexEntries(client, fuse), [], 'when it is mounted again');
    t.deepEqual(await client.readdir({ path: overlay.path }), []);
  },
);

guestTest(
  'of two upper directories that say they are from one lower one only that of the index is believed, which is told (E17)',
  async (t, guest) => {
    await using client = await guest.client();
    const { upper, mount } = await handleLayers(guest, client);
    {
      await using overlay = await mount(WITH_HANDLES);
      await client.chmod({ path: overlay.file('d'), mode: 0o700 });
    }
    await fill(client, upper, ['e/', 'plain/']);
    const data = new Uint8Array(
      await client.getxattr({ path: `${upper}/d`, name: 'trusted.overlay.origin' }),
    );
    await client.setxattr({ path: `${upper}/e`, name: 'trusted.overlay.origin', data });
    await client.setxattr({ path: `${upper}/e`, name: 'trusted.overlay.redirect', data: 'd' });
    await using overlay = await mount(WITH_HANDLES);
    const after = (await guest.kernelLog()).at(-1)?.seq;
    for (const [name, errno] of [
      ['d', 'ok'],
      ['plain', 'ok'],
      ['e', 'EIO'],
    ] as const) {
      t.is(await client.errno.lstat({ path: overlay.file(name) }), errno, name);
    }
    const said = (await guest.kernelLog(after)).map((record) => record.text);
    const told = said.filter((line) => line.includes('suspected multiply redirected dir found'));
    t.is(told.length, 1, said.join('; '));
  },
);
