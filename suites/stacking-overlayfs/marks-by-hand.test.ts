import { bytes, concat, text } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';
import { fill, layersOf, over } from '../lib/layers.ts';
import { upperOn } from '../lib/stack.ts';

/** Extended attributes of a layer that an overlay would not have written so: what it makes of them. */

const NOTHING = new Uint8Array();

/** By value of `trusted.overlay.redirect`: what comes of looking the directory up. */
const REDIRECTS: Readonly<Record<string, string>> = {
  target: 'ok',
  '/in/target': 'ok',
  '': 'EINVAL',
  '/': 'EINVAL',
  'in/target': 'EINVAL',
  '//in/target': 'EINVAL',
  '/in//target': 'EINVAL',
  '/in/target/': 'EINVAL',
};

guestTest(
  'a redirect is a name, or a path from the root without empty parts; with any other the directory is an error (E16)',
  async (t, guest) => {
    await using client = await guest.client();
    const layers = await layersOf(guest, 2);
    const [lower = '', upper = ''] = layers;
    await fill(client, lower, ['target/', 'target/near', 'in/', 'in/target/', 'in/target/far']);
    const cases = Object.entries(REDIRECTS);
    for (const [nth, [value]] of cases.entries()) {
      const path = `${upper}/d${nth}`;
      await client.mkdir({ path });
      await client.setxattr({ path, name: 'trusted.overlay.redirect', data: value });
    }
    await using overlay = await over(guest, client, layers, 'redirect_dir=on');
    for (const [nth, [value, errno]] of cases.entries()) {
      t.is(await client.errno.stat({ path: overlay.file(`d${nth}`) }), errno, `to “${value}”`);
    }
    t.deepEqual(
      await client.readdir({ path: overlay.file('d0') }),
      ['near'],
      'a name: of the same directory',
    );
    t.deepEqual(await client.readdir({ path: overlay.file('d1') }), ['far'], 'a path: from the root');
  },
);

/** Mounts a layer with `f`, whose data are below and whose metadata have this mark, and opens it. */
async function openMetadata(
  guest: TestGuest,
  client: Client,
  how: { readonly mark: Uint8Array; readonly options: string },
): Promise<{ readonly stat: string; readonly open: string }> {
  const layers = await layersOf(guest, 2);
  const [lower = '', upper = ''] = layers;
  for (const layer of layers) await client.writeFile({ path: `${layer}/f`, data: 'data' });
  await client.setxattr({ path: `${upper}/f`, name: 'trusted.overlay.metacopy', data: how.mark });
  const writable = await upperOn(guest);
  await using overlay = await guest.mountOverlay(
    { lower: [upper, lower], ...writable, options: how.options },
    client,
  );
  const path = overlay.file('f');
  return {
    stat: await client.errno.stat({ path }),
    open: await client.errno.open({ path, flags: 'O_RDONLY' }),
  };
}

/** `struct ovl_metacopy` (fs/overlayfs/overlayfs.h): version, length, flags, algorithm of the digest, and that. */
const metacopy = (version: number, length: number, algorithm: number, digest = 0): Uint8Array =>
  concat(new Uint8Array([version, length, 0, algorithm]), new Uint8Array(digest));

guestTest('a mark of metadata alone is empty, or has at least its four bytes (E4)', async (t, guest) => {
  guest.needs(guest.expected.overlaysWithDataLayers, 'digests in the mark of metadata alone');
  await using client = await guest.client();
  for (const [mark, errno] of [
    [NOTHING, 'ok'],
    [new Uint8Array(1), 'EIO'],
    [new Uint8Array(3), 'EIO'],
    [metacopy(0, 4, 0), 'ok'],
    [metacopy(0, 36, 1, 32), 'ok'],
    [metacopy(9, 99, 1, 1), 'ok'],
  ] as const) {
    const made = await openMetadata(guest, client, { mark, options: 'metacopy=on' });
    t.deepEqual(made, { stat: errno, open: errno === 'ok' ? 'ok' : errno }, `[${mark.join(' ')}]`);
  }
});

guestTest(
  'metadata alone that a lower layer has are followed to their data only where the mount says so (E4)',
  async (t, guest) => {
    await using client = await guest.client();
    for (const [options, errno] of [
      ['metacopy=on,redirect_dir=on', 'ok'],
      ['metacopy=off,redirect_dir=on', 'EPERM'],
      ['metacopy=off,redirect_dir=off', 'EPERM'],
    ] as const) {
      const made = await openMetadata(guest, client, { mark: NOTHING, options });
      t.deepEqual(made, { stat: errno, open: errno }, options);
    }
  },
);

/** A mark with a digest, and what opening the file gives with `verity=on` and with `verity=require`. */
const DIGESTS: Readonly<Record<string, readonly [mark: Uint8Array, on: string, require: string]>> = {
  'an empty one': [NOTHING, 'ok', 'EIO'],
  'one without a digest': [metacopy(0, 4, 0), 'ok', 'EIO'],
  'a longer one without a digest': [metacopy(0, 8, 0, 4), 'ok', 'EIO'],
  'a digest that the data do not have': [metacopy(0, 36, 1, 32), 'EIO', 'EIO'],
  'an unknown version': [metacopy(1, 8, 0, 4), 'EIO', 'EIO'],
  'one that is longer than it says': [metacopy(0, 8, 0, 8), 'EIO', 'EIO'],
  'one that is shorter than it says': [metacopy(0, 9, 0, 4), 'EIO', 'EIO'],
};

guestTest(
  'with verity a file whose mark is not what its data are cannot be opened, and may have to have a digest (E4)',
  async (t, guest) => {
    guest.needs(guest.expected.overlaysWithDataLayers, 'digests in the mark of metadata alone');
    await using client = await guest.client();
    for (const [what, [mark, on, require]] of Object.entries(DIGESTS)) {
      for (const [verity, open] of [
        ['off', 'ok'],
        ['on', on],
        ['require', require],
      ] as const) {
        const made = await openMetadata(guest, client, { mark, options: `metacopy=on,verity=${verity}` });
        t.deepEqual(made, { stat: 'ok', open }, `${what}, verity=${verity}`);
      }
    }
  },
);

guestTest(
  'what has no digest is copied up without one, and with its data where there must be one (E4)',
  async (t, guest) => {
    guest.needs(guest.expected.overlaysWithDataLayers, 'digests in the mark of metadata alone');
    await using client = await guest.client();
    for (const [verity, mark] of [
      ['on', 'ok'],
      ['require', 'ENODATA'],
    ] as const) {
      const layers = await layersOf(guest, 2);
      const [lower = '', upper = ''] = layers;
      await fill(client, lower, ['f']);
      await using overlay = await over(guest, client, layers, `metacopy=on,verity=${verity}`);
      await client.chmod({ path: overlay.file('f'), mode: 0o600 });
      const name = 'trusted.overlay.metacopy';
      t.is(await client.errno.getxattr({ path: `${upper}/f`, name }), mark, verity);
      if (mark === 'ok')
        t.is((await client.getxattr({ path: `${upper}/f`, name })).length, 0, 'an empty mark');
      t.is(text(await client.readFile({ path: overlay.file('f') })), 'f at the bottom', verity);
    }
  },
);

const UUID = 'trusted.overlay.uuid';

/** What the upper layer has when it is first mounted, and whether it is given a number. */
const NUMBERED: Readonly<
  Record<string, { name: string; data: Uint8Array; auto: boolean; on: boolean; kept?: boolean }>
> = {
  'a number that is too short': { name: UUID, data: bytes('short'), auto: false, on: false, kept: true },
  'a number that is too long': { name: UUID, data: new Uint8Array(20), auto: false, on: false, kept: true },
  'a mark of what was moved or copied to it': {
    name: 'trusted.overlay.impure',
    data: bytes('y'),
    auto: false,
    on: true,
  },
  'such a mark that is empty': { name: 'trusted.overlay.impure', data: NOTHING, auto: true, on: true },
  'another mark': { name: 'trusted.overlay.other', data: bytes('y'), auto: true, on: true },
};

guestTest(
  'an overlay whose upper layer was in use before has a number only if it is asked for, and none for a bad one',
  async (t, guest) => {
    guest.needs(guest.expected.overlaysWithDataLayers, 'numbers of overlays');
    await using client = await guest.client();
    const lower = await guest.directory('ext4', 'lower');
    for (const [what, { name, data, kept = false, ...given }] of Object.entries(NUMBERED)) {
      for (const option of ['auto', 'on'] as const) {
        const layers = await upperOn(guest);
        await client.setxattr({ path: layers.upper, name, data });
        const below = (await client.statfs({ path: layers.upper })).fsid;
        await using overlay = await guest.mountOverlay(
          { lower, ...layers, options: `uuid=${option}` },
          client,
        );
        const { fsid } = await client.statfs({ path: overlay.path });
        const message = `${what}, uuid=${option}`;
        t.is(fsid !== below, given[option], message);
        const stored = await client.errno.getxattr({ path: layers.upper, name: UUID });
        t.is(stored, given[option] || kept ? 'ok' : 'ENODATA', `${message}: the attribute`);
        if (kept) t.deepEqual(await client.getxattr({ path: layers.upper, name: UUID }), data, message);
      }
    }
  },
);

guestTest(
  'whiteouts that are attributes are looked for only in directories that are marked as having them',
  async (t, guest) => {
    guest.needs(guest.expected.overlaysWithDataLayers, 'whiteouts that are attributes');
    await using client = await guest.client();
    const [base = '', top = '', upper = ''] = await layersOf(guest, 3);
    for (const directory of ['marked', 'other']) {
      await fill(client, base, [`${directory}/`, `${directory}/name`]);
      await client.mkdir({ path: `${top}/${directory}` });
      const path = `${top}/${directory}/name`;
      await client.writeFile({ path, data: '' });
      await client.setxattr({ path, name: 'trusted.overlay.whiteout', data: 'y' });
    }
    await client.setxattr({ path: `${top}/marked`, name: 'trusted.overlay.opaque', data: 'x' });
    await using overlay = await over(guest, client, [base, top, upper]);
    for (const round of ['first', 'again']) {
      t.deepEqual(await client.readdir({ path: overlay.file('marked') }), [], `marked, ${round}`);
      t.deepEqual(await client.readdir({ path: overlay.file('other') }), ['name'], `not marked, ${round}`);
    }
  },
);
