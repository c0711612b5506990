import { text } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';
import { fill, layersOf, over } from '../lib/layers.ts';
import { metadataAlone, type Says } from '../lib/metadata-alone.ts';
import { WITHOUT_PASSTHROUGH } from '../lib/registration.ts';
import { upperOn } from '../lib/stack.ts';

/** Files that are metadata alone because a layer says so, and where their data are looked for (overlayfs.rst). */

const METACOPY = 'trusted.overlay.metacopy';
const OPTIONS = 'metacopy=on,redirect_dir=on';
const SIZE = 6000;
const contents = (name: string): string => name.padEnd(SIZE, '.');

/** Of the size that the data have. */
const metadata = (client: Client, path: string, says: Omit<Says, 'size'> = {}): Promise<void> =>
  metadataAlone(client, path, { ...says, size: SIZE });

/** `struct ovl_metacopy`, fs/overlayfs/overlayfs.h. */
const markOf = (digest: number, { version = 0, length = 4 + digest, algorithm = 1 } = {}): Uint8Array =>
  Uint8Array.from([version, length, 0, algorithm, ...new Uint8Array(digest)]);

function needsVerity(guest: TestGuest): void {
  guest.needs(guest.expected.overlaysWithDataLayers, 'digests of the data of a file');
}

/** What the mark of a file is, and what opening it gives with the option `verity` so. */
const MARKS: readonly (readonly [
  what: string,
  mark: Uint8Array,
  off: string,
  on: string,
  require: string,
])[] = [
  ['empty', new Uint8Array(), 'ok', 'ok', 'EIO'],
  ['without a digest', markOf(0, { algorithm: 0 }), 'ok', 'ok', 'EIO'],
  ['with room for a digest, but none', markOf(32, { algorithm: 0 }), 'ok', 'ok', 'EIO'],
  ['with a digest', markOf(32), 'ok', 'EIO', 'EIO'],
  ['with a digest, shorter than it says', markOf(32, { length: 40 }), 'ok', 'EIO', 'EIO'],
  ['with a digest, of a later version', markOf(32, { version: 1 }), 'ok', 'EIO', 'EIO'],
];

guestTest(
  'data of which a digest is told are not read where they have none, and with verity=require none without (E4)',
  async (t, guest) => {
    needsVerity(guest);
    await using client = await guest.client();
    const [bottom = '', middle = '', upper = ''] = await layersOf(guest, 3);
    await client.writeFile({ path: `${bottom}/plain`, data: contents('plain'), mode: 0o644 });
    for (const [at, [, mark]] of MARKS.entries()) {
      for (const [name, layer] of [
        [`low${at}`, middle],
        [`up${at}`, upper],
      ] as const) {
        await client.writeFile({ path: `${bottom}/${name}`, data: contents(name), mode: 0o644 });
        await metadata(client, `${layer}/${name}`, { mark });
      }
    }
    for (const [at, verity] of (['off', 'on', 'require'] as const).entries()) {
      await using overlay = await over(guest, client, [bottom, middle, upper], `${OPTIONS},verity=${verity}`);
      t.is(text(await client.readFile({ path: overlay.file('plain') })), contents('plain'), 'a whole file');
      for (const [nth, [what, , ...gives]] of MARKS.entries()) {
        for (const name of [`low${nth}`, `up${nth}`]) {
          const path = overlay.file(name);
          const title = `verity=${verity}, a mark ${what}: ${name}`;
          t.is((await client.stat({ path })).size, SIZE, title);
          const errno = await client.errno.open({ path, flags: 'O_RDONLY' });
          t.is(errno, gives[at] ?? '', title);
          if (errno === 'ok') t.is(text(await client.readFile({ path })), contents(name), title);
          else {
            t.is(await client.errno.chmod({ path, mode: 0o600 }), errno, `${title}: chmod`);
            t.is(await client.errno.truncate({ path, length: 1 }), errno, `${title}: truncate`);
          }
        }
      }
      t.deepEqual(
        (await client.readdir({ path: upper })).filter((name) => name.startsWith('low')),
        [],
      );
    }
  },
);

guestTest(
  'with verity=require only data with a digest stay below when a file is copied up (E4)',
  async (t, guest) => {
    needsVerity(guest);
    await using client = await guest.client();
    const layers = await layersOf(guest, 2);
    const [lower = '', upper = ''] = layers;
    for (const [verity, mark] of [
      ['off', 'ok'],
      ['on', 'ok'],
      ['require', 'ENODATA'],
    ] as const) {
      await client.writeFile({ path: `${lower}/${verity}`, data: contents(verity) });
      await using overlay = await over(guest, client, layers, `${OPTIONS},verity=${verity}`);
      await client.chmod({ path: overlay.file(verity), mode: 0o604 });
      const path = `${upper}/${verity}`;
      t.is(await client.errno.getxattr({ path, name: METACOPY }), mark, verity);
      const copied = text(await client.readFile({ path })).replaceAll('\0', '');
      t.is(copied, mark === 'ok' ? '' : contents(verity), verity);
      t.is(text(await client.readFile({ path: overlay.file(verity) })), contents(verity), verity);
    }
  },
);

guestTest('a mark of metadata that is too short to be one makes its name an error', async (t, guest) => {
  needsVerity(guest);
  await using client = await guest.client();
  const layers = await layersOf(guest, 2);
  const [lower = '', upper = ''] = layers;
  for (const length of [0, 1, 3, 4]) {
    await client.writeFile({ path: `${lower}/${length}`, data: contents('f') });
    await metadata(client, `${upper}/${length}`, { mark: markOf(0, { algorithm: 0 }).slice(0, length) });
  }
  await using overlay = await over(guest, client, layers, OPTIONS);
  for (const [length, errno] of [
    [0, 'ok'],
    [1, 'EIO'],
    [3, 'EIO'],
    [4, 'ok'],
  ] as const) {
    t.is(await client.errno.lstat({ path: overlay.file(`${length}`) }), errno, `${length} bytes`);
  }
});

guestTest(
  'data are below all layers that have metadata alone, where the last redirect says (E4, E16)',
  async (t, guest) => {
    await using client = await guest.client();
    const [bottom = '', second = '', third = '', upper = ''] = await layersOf(guest, 4);
    await fill(client, bottom, ['d/']);
    for (const name of ['four', 'd/data', 'three']) {
      await client.writeFile({ path: `${bottom}/${name}`, data: contents(name) });
    }
    for (const layer of [second, third]) {
      await fill(client, layer, ['e/', 'g/']);
      await metadata(client, `${layer}/three`);
    }
    for (const layer of [second, third, upper]) await metadata(client, `${layer}/four`);
    await metadata(client, `${second}/e/m`, { redirect: '/d/data' });
    await metadata(client, `${third}/g/n`, { redirect: '/e/m' });
    await metadata(client, `${second}/e/o`, { redirect: '/d/data' });
    await metadata(client, `${third}/g/p`, { redirect: '/e/o' });
    await metadata(client, `${upper}/moved`, { redirect: '/g/p' });
    {
      await using overlay = await over(guest, client, [bottom, second, third, upper], OPTIONS);
      for (const [name, data] of [
        ['four', 'four'],
        ['three', 'three'],
        ['e/m', 'd/data'],
        ['g/n', 'd/data'],
        ['moved', 'd/data'],
      ] as const) {
        const path = overlay.file(name);
        t.is(text(await client.readFile({ path })), contents(data), name);
        const { blocks } = await client.stat({ path: `${bottom}/${data}` });
        t.is((await client.stat({ path })).blocks, blocks, `${name}: blocks`);
      }
      const path = overlay.file('three');
      await client.chmod({ path, mode: 0o604 });
      const { blocks } = await client.stat({ path: `${bottom}/three` });
      t.not(blocks, 0);
      t.is((await client.stat({ path })).blocks, blocks, 'blocks of the data, and not of what was copied');
      t.is(text(await client.readFile({ path })), contents('three'));
      t.is(await client.errno.getxattr({ path: `${upper}/three`, name: METACOPY }), 'ok', 'metadata alone');
    }
  },
);

guestTest('metadata whose data would be no file, or are nowhere, are an error (E4)', async (t, guest) => {
  await using client = await guest.client();
  const layers = await layersOf(guest, 3);
  const [bottom = '', middle = '', upper = ''] = layers;
  const names = ['directory', 'fifo', 'link', 'file'];
  await fill(client, bottom, [...names, 'x']);
  await client.mkdir({ path: `${middle}/directory` });
  await client.mknod({ path: `${middle}/fifo`, mode: 0o010_644 });
  await client.symlink({ path: `${middle}/link`, target: 'file' });
  for (const name of names) await metadata(client, `${upper}/${name}`);
  await metadata(client, `${bottom}/last`, { redirect: 'not/valid' });
  await metadata(client, `${bottom}/last-redirected`, { redirect: '/x' });
  await metadata(client, `${middle}/middle`, { redirect: 'not/valid' });
  await metadata(client, `${upper}/through-file`, { redirect: '/x/y' });
  await metadata(client, `${upper}/to-file`, { redirect: '/x' });
  await using overlay = await over(guest, client, layers, OPTIONS);
  for (const [name, errno] of [
    ['directory', 'EIO'],
    ['fifo', 'EIO'],
    ['link', 'EIO'],
    ['file', 'ok'],
    ['last', 'EIO'],
    ['last-redirected', 'EIO'],
    ['middle', 'EINVAL'],
    ['through-file', 'EIO'],
    ['to-file', 'ok'],
  ] as const) {
    t.is(await client.errno.lstat({ path: overlay.file(name) }), errno, name);
  }
});

/** What metadata say of where in the layers of data alone their data are; what stat and open give. */
const POINTERS: readonly (readonly [redirect: string | undefined, stat: string, open: string])[] = [
  ['/first', 'ok', 'ok'],
  ['/second', 'ok', 'ok'],
  ['/d/file', 'ok', 'ok'],
  ['/d', 'ok', 'ENOENT'],
  ['/none', 'ok', 'ENOENT'],
  ['/none/file', 'ok', 'ENOENT'],
  ['/first/file', 'ok', 'ENOENT'],
  ['/fifo', 'ok', 'ENOENT'],
  ['/link', 'ok', 'ENOENT'],
  ['/linked/file', 'ok', 'ENOENT'],
  ['/../first', 'ok', 'EXDEV'],
  ['first', 'EIO', 'EIO'],
  ['/', 'EINVAL', 'EINVAL'],
  [undefined, 'EIO', 'EIO'],
];

guestTest(
  'metadata that say where among the data alone theirs are can be looked at, and opened where there is a file (E4)',
  async (t, guest) => {
    guest.needs(guest.expected.overlaysWithDataLayers, 'data-only lower layers');
    await using client = await guest.client();
    const [second = '', first = '', meta = ''] = await layersOf(guest, 3);
    await fill(client, first, ['d/']);
    await fill(client, second, ['second/', 'd/']);
    await client.rmdir({ path: `${second}/second` });
    await client.mkdir({ path: `${first}/second` });
    for (const path of [`${first}/first`, `${second}/second`, `${second}/d/file`]) {
      await client.writeFile({ path, data: contents('data') });
    }
    await client.mknod({ path: `${first}/fifo`, mode: 0o010_644 });
    await client.symlink({ path: `${first}/link`, target: 'first' });
    await client.symlink({ path: `${first}/linked`, target: 'd' });
    for (const [at, [redirect]] of POINTERS.entries()) {
      await metadata(client, `${meta}/m${at}`, redirect === undefined ? {} : { redirect });
    }
    const layers = await upperOn(guest);
    const lower = `${meta}::${first}::${second}`;
    await using overlay = await guest.mountOverlay({ lower, ...layers, options: OPTIONS }, client);
    for (const [at, [redirect = 'nothing', stat, open]] of POINTERS.entries()) {
      const path = overlay.file(`m${at}`);
      t.is(await client.errno.stat({ path }), stat, `${redirect}: stat`);
      t.is(await client.errno.open({ path, flags: 'O_RDONLY' }), open, `${redirect}: open`);
      t.is(await client.errno.chmod({ path, mode: 0o600 }), open, `${redirect}: chmod`);
      if (open === 'ok') t.is(text(await client.readFile({ path })), contents('data'), redirect);
      if (stat === 'ok') t.is((await client.stat({ path })).size, SIZE, `${redirect}: size`);
    }
    const good = POINTERS.flatMap(([, , open], at) => (open === 'ok' ? [`m${at}`] : []));
    t.deepEqual(await client.readdir({ path: layers.upper }), good, 'nothing else is copied up');
  },
);

guestTest(
  'a server that does not tell how large the data are makes stat of the metadata an error',
  async (t, guest) => {
    await using client = await guest.client();
    const [root = '', middle = '', upper = ''] = await layersOf(guest, 3);
    await client.writeFile({ path: `${root}/f`, data: contents('f') });
    await metadata(client, `${middle}/f`);
    await using fuse = await guest.mountFuse({ root, passthrough: 'off', init: WITHOUT_PASSTHROUGH });
    await using overlay = await over(guest, client, [fuse.path, middle, upper], OPTIONS);
    const stat = () => client.errno.stat({ path: overlay.file('f') });
    t.is(await stat(), 'ok');
    const permit = await fuse.fail({ opcode: 'GETATTR', path: '/f' }, 'EDQUOT');
    t.is(await stat(), 'EDQUOT');
    await permit();
    t.is(await stat(), 'ok');
  },
);
