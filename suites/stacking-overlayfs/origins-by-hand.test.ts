import type { Client } from '../lib/client.ts';
import { text } from '../lib/bytes.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';
import { fill, layersOf, over } from '../lib/layers.ts';
import { upperOn } from '../lib/stack.ts';

/** What the upper layer remembers of the lower file that a file was copied from, and what an overlay believes of it. */

const ORIGIN = 'trusted.overlay.origin';
const NLINK = 'trusted.overlay.nlink';
/** Offsets in `struct ovl_fb`, fs/overlayfs/overlayfs.h. */
const FB = { version: 0, magic: 1, length: 2, flags: 3, uuid: 5, fid: 21 } as const;

const withByte = (at: number, change: (byte: number) => number) => (origin: Uint8Array) => {
  const changed = Uint8Array.from(origin);
  changed[at] = change(changed[at] ?? 0);
  return changed;
};

/** What is made of the origin of a copied file; whether its number is still that of the lower file. */
const ORIGINS: readonly (readonly [
  what: string,
  change: (origin: Uint8Array) => Uint8Array,
  known: boolean,
])[] = [
  ['as it is', (origin) => origin, true],
  ['none', () => new Uint8Array(), false],
  ['too short to be one', (origin) => origin.slice(0, FB.fid - 1), false],
  ['shorter than it says', (origin) => origin.slice(0, -1), false],
  ['of another kind', withByte(FB.magic, (byte) => byte ^ 1), false],
  ['of a later version', withByte(FB.version, (byte) => byte + 1), false],
  ['with unknown flags', withByte(FB.flags, (byte) => byte | 0x80), false],
  ['of a machine with the other byte order', withByte(FB.flags, (byte) => byte ^ 1), false],
  ['good for any byte order', withByte(FB.flags, (byte) => (byte ^ 1) | 2), true],
  ['of another filesystem', withByte(FB.uuid, (byte) => byte ^ 1), false],
];

guestTest(
  'a copied file has the number of the lower one as long as its origin can be understood (E17)',
  async (t, guest) => {
    await using client = await guest.client();
    const layers = await layersOf(guest, 2);
    const [lower = '', upper = ''] = layers;
    const names = ORIGINS.map((_each, at) => `f${at}`);
    await fill(client, lower, [...names, 'fifo']);
    await client.unlink({ path: `${lower}/fifo` });
    await client.mknod({ path: `${lower}/fifo`, mode: 0o010_644 });
    {
      await using overlay = await over(guest, client, layers);
      for (const name of [...names, 'fifo']) await client.chmod({ path: overlay.file(name), mode: 0o604 });
    }
    const numberIn = async (layer: string, name: string) =>
      (await client.stat({ path: `${layer}/${name}` })).ino;
    for (const [at, [, change]] of ORIGINS.entries()) {
      const origin = { path: `${upper}/f${at}`, name: ORIGIN };
      await client.setxattr({ ...origin, data: change(new Uint8Array(await client.getxattr(origin))) });
    }
    const fifo = new Uint8Array(await client.getxattr({ path: `${upper}/fifo`, name: ORIGIN }));
    await client.writeFile({ path: `${upper}/other-kind`, data: '' });
    await client.setxattr({ path: `${upper}/other-kind`, name: ORIGIN, data: fifo });
    await using overlay = await over(guest, client, layers);
    for (const [at, [what, , known]] of ORIGINS.entries()) {
      const name = `f${at}`;
      t.is(
        (await client.stat({ path: overlay.file(name) })).ino,
        await numberIn(known ? lower : upper, name),
        what,
      );
      t.is(text(await client.readFile({ path: overlay.file(name) })), `${name} at the bottom`, what);
    }
    const { ino } = await client.stat({ path: overlay.file('other-kind') });
    t.is(ino, await numberIn(upper, 'other-kind'), 'of a fifo, at a file');
  },
);

guestTest(
  'with uuid=off origins name no filesystem, and those that name one are not believed (E17)',
  async (t, guest) => {
    await using client = await guest.client();
    const layers = await layersOf(guest, 2);
    const [lower = '', upper = ''] = layers;
    await fill(client, lower, ['off', 'on']);
    const uuidOf = async (name: string) => {
      const origin = await client.getxattr({ path: `${upper}/${name}`, name: ORIGIN });
      return [...origin.slice(FB.uuid, FB.fid)].some((byte) => byte !== 0);
    };
    for (const [name, options] of [
      ['off', 'uuid=off'],
      ['on', undefined],
    ] as const) {
      await using overlay = await over(guest, client, layers, options);
      await client.chmod({ path: overlay.file(name), mode: 0o604 });
    }
    t.deepEqual([await uuidOf('off'), await uuidOf('on')], [false, true]);
    for (const [options, known] of [
      ['uuid=off', 'off'],
      [undefined, 'on'],
    ] as const) {
      await using overlay = await over(guest, client, layers, options);
      for (const name of ['off', 'on']) {
        const layer = name === known ? lower : upper;
        const { ino } = await client.stat({ path: `${layer}/${name}` });
        t.is(
          (await client.stat({ path: overlay.file(name) })).ino,
          ino,
          `${options ?? 'no option'}: ${name}`,
        );
      }
    }
  },
);

guestTest('who may not open by handle does not follow origins when it mounts (E17)', async (t, guest) => {
  await using client = await guest.client();
  const layers = await layersOf(guest, 2);
  const [lower = '', upper = ''] = layers;
  await fill(client, lower, ['f']);
  {
    await using overlay = await over(guest, client, layers);
    await client.chmod({ path: overlay.file('f'), mode: 0o604 });
  }
  await using mounter = await guest.client({ launcher: ['setpriv', '--bounding-set', '-dac_read_search'] });
  for (const [who, by, layer] of [
    ['without the right', mounter, upper],
    ['with it', client, lower],
  ] as const) {
    await using overlay = await over(guest, by, layers);
    const { ino } = await client.stat({ path: overlay.file('f') });
    t.is(ino, (await client.stat({ path: `${layer}/f` })).ino, who);
  }
});

/** Overlays with an index of `a` and `b`, links of one file of the lower layer, the former copied up. */
async function indexed(guest: TestGuest, client: Client) {
  const lower = await guest.directory('ext4', 'lower');
  const layers = await upperOn(guest);
  await fill(client, lower, ['a', 'other']);
  await client.link({ from: `${lower}/a`, to: `${lower}/b` });
  const mount = (options = 'index=on') => guest.mountOverlay({ lower, ...layers, options }, client);
  {
    await using overlay = await mount();
    await client.chmod({ path: overlay.file('a'), mode: 0o604 });
  }
  const [name = ''] = (await client.readdir({ path: `${layers.work}/index` })).filter(
    (each) => !each.startsWith('#'),
  );
  return { lower, ...layers, mount, index: `${layers.work}/index`, name };
}

/** What the index may say of how many links there are beyond those of the upper (U) or the lower (L) file. */
const COUNTS: readonly (readonly [count: string | null, links: number])[] = [
  ['U+0', 2],
  ['U+3', 5],
  ['U-1', 1],
  ['L+1', 4],
  ['L-1', 2],
  ['L+0', 3],
  ['U+0000000003', 5],
  // One byte more than any count has.
  ['U+00000000003', 2],
  ['X+3', 2],
  ['U3', 2],
  ['L3', 2],
  ['U+x', 2],
  ['L+x', 2],
  ['L+', 2],
  ['L', 2],
  ['', 2],
  ['U-2', 2],
  ['L-3', 2],
  ['U-9', 2],
  [null, 2],
];

guestTest(
  'an index tells how many links a file has, and what is no count is not believed (E17)',
  async (t, guest) => {
    await using client = await guest.client();
    const { lower, upper, mount } = await indexed(guest, client);
    const path = `${upper}/a`;
    // The lower file has three links now, the upper one two: one of them is its entry in the index.
    await client.link({ from: `${lower}/b`, to: `${lower}/c` });
    for (const [count, links] of COUNTS) {
      if (count === null) await client.removexattr({ path, name: NLINK });
      else await client.setxattr({ path, name: NLINK, data: count });
      await using overlay = await mount();
      t.is(
        (await client.stat({ path: overlay.file('a') })).nlink,
        links,
        count === null ? 'none' : `'${count}'`,
      );
      await overlay.unmount();
    }
  },
);

guestTest(
  'a copied file that has one name has one link, and nothing is said of a count that it does not need (E17)',
  async (t, guest) => {
    await using client = await guest.client();
    for (const options of [undefined, 'index=on']) {
      const lower = await guest.directory('ext4', 'lower');
      const layers = await upperOn(guest);
      await fill(client, lower, ['f']);
      const after = (await guest.kernelLog()).at(-1)?.seq;
      const mount = () => guest.mountOverlay({ lower, ...layers, options }, client);
      const what = options ?? 'no option';
      {
        await using overlay = await mount();
        await client.chmod({ path: overlay.file('f'), mode: 0o604 });
        t.is((await client.stat({ path: overlay.file('f') })).nlink, 1, `${what}: copied up`);
      }
      {
        await using overlay = await mount();
        const path = overlay.file('f');
        t.is((await client.stat({ path })).nlink, 1, `${what}: mounted again`);
        await client.link({ from: path, to: overlay.file('g') });
        t.is((await client.stat({ path })).nlink, 2, `${what}: linked`);
      }
      await using overlay = await mount();
      t.is((await client.stat({ path: overlay.file('f') })).nlink, 2, `${what}: linked, and mounted again`);
      const said = (await guest.kernelLog(after)).map(({ text }) => text);
      t.deepEqual(
        said.filter((line) => line.includes('nlink')),
        [],
        what,
      );
    }
  },
);

/** `struct ovl_fb` in hexadecimal, as the names of an index are. */
const nameOf = (version: number, magic: number, flags: number, length = 40): string =>
  Buffer.concat([Buffer.from([version, magic, 40, flags, 1]), Buffer.alloc(length - 5)]).toString('hex');

const ENTRIES: readonly (readonly [what: string, name: string, mount: string])[] = [
  ['a short name', 'short', 'EINVAL'],
  ['no hexadecimal', 'x'.repeat(80), 'EINVAL'],
  ['another kind of name', nameOf(0, 0xfa, 0), 'EINVAL'],
  ['a name shorter than it says', nameOf(0, 0xfb, 0, 30), 'EINVAL'],
  ['a name of a later version', nameOf(1, 0xfb, 0), 'ENODATA'],
  ['a name with unknown flags', nameOf(0, 0xfb, 0x80), 'ENODATA'],
  ['a name of the other byte order', nameOf(0, 0xfb, 1), 'ENODATA'],
  ['a file that says nothing of its origin', nameOf(0, 0xfb, 0), 'ENODATA'],
];

guestTest(
  'an overlay is not mounted with an index that has what it does not understand (E17)',
  async (t, guest) => {
    await using client = await guest.client();
    const { index, mount } = await indexed(guest, client);
    const mounts = async () => {
      try {
        await using _overlay = await mount();
        return 'ok';
      } catch (error) {
        return (error as { errno?: string }).errno ?? String(error);
      }
    };
    for (const [what, name, errno] of ENTRIES) {
      await client.writeFile({ path: `${index}/${name}`, data: '' });
      t.is(await mounts(), errno, what);
      await client.unlink({ path: `${index}/${name}` });
      t.is(await mounts(), 'ok', `without ${what}`);
    }
    await client.mkdir({ path: `${index}/${nameOf(0, 0xfb, 0)}` });
    t.is(await mounts(), 'ok', 'a directory, which only an export needs');
  },
);

guestTest(
  'a file whose entry in the index is of another kind cannot be looked up (E17)',
  async (t, guest) => {
    await using client = await guest.client();
    const { index, name, upper, mount } = await indexed(guest, client);
    const entry = `${index}/${name}`;
    for (const [what, replace, looked] of [
      ['a whiteout', () => client.mknod({ path: entry, mode: 0o020_000 }), 'EIO'],
      ['a fifo', () => client.mknod({ path: entry, mode: 0o010_644 }), 'EIO'],
      ['another file', () => client.writeFile({ path: entry, data: 'of another' }), 'ok'],
    ] as const) {
      await using overlay = await mount();
      await client.rename({ from: entry, to: `${index}/../aside` });
      await replace();
      t.is(await client.errno.stat({ path: overlay.file('a') }), looked, what);
      if (looked === 'ok') {
        const { ino } = await client.stat({ path: `${upper}/a` });
        t.is((await client.stat({ path: overlay.file('a') })).ino, ino, 'the upper file, by itself');
      }
      await overlay.unmount();
      await client.unlink({ path: entry });
      await client.rename({ from: `${index}/../aside`, to: entry });
    }
  },
);
