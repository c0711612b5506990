import { firstDifference, pattern, text } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import type { FuseMount } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';
import { needsMaxStackDepth } from '../lib/stack-depth.ts';
import { upperOn } from '../lib/stack.ts';
import type { StackedMount } from '../lib/stacked-mount.ts';

/** Where the lower layer of the overlay is. */
type Below = 'ext4' | 'FUSE in passthrough mode';
const PLACES: readonly Below[] = ['ext4', 'FUSE in passthrough mode'];

/** An overlay, and its layers as they are on ext4. */
interface Layers extends AsyncDisposable {
  readonly overlay: StackedMount;
  readonly lower: string;
  readonly upper: string;
  /** None where the lower layer is on ext4 itself. */
  readonly fuse: FuseMount | undefined;
}

/** `fill` puts things into the lower layer before it is mounted. */
async function overlayOn(
  guest: TestGuest,
  client: Client,
  how: { readonly below: Below; readonly options?: string; readonly fill: (lower: string) => Promise<void> },
): Promise<Layers> {
  await using undo = new AsyncDisposableStack();
  const lower = await guest.directory('ext4', 'lower');
  await how.fill(lower);
  const fuse =
    how.below === 'ext4'
      ? undefined
      : undo.use(await guest.mountFuse({ root: lower, init: { maxStackDepth: 1 } }));
  const layers = await upperOn(guest);
  const { options } = how;
  const overlay = undo.use(
    await guest.mountOverlay({ lower: fuse?.path ?? lower, ...layers, options }, client),
  );
  const all = undo.move();
  return { overlay, lower, upper: layers.upper, fuse, [Symbol.asyncDispose]: () => all.disposeAsync() };
}

/** What copy-up has to preserve of a file. Times to the microsecond: larger than that a double is not exact. */
async function identity(client: Client, path: string): Promise<Record<string, unknown>> {
  const { mode, uid, gid, size, mtimeNs, atimeNs } = await client.lstat({ path });
  const round = (ns: number) => Math.round(ns / 1000);
  const value = text(await client.getxattr({ path, name: 'trusted.word' }).catch(() => new Uint8Array()));
  return { mode, uid, gid, size, mtime: round(mtimeNs), atime: round(atimeNs), value };
}

/** Shorter ones after longer ones where ext4 lists them: those in the inode first, then those in a block, by name. */
const ATTRIBUTES = {
  'trusted.word': 'value',
  'trusted.long': 'long'.repeat(40),
  'trusted.most': 'most'.repeat(30),
} as const;

/** What copied-up-attributes and layers-as-one ask of an overlay on ext4, of one over FUSE. */
const BELOW = 'FUSE in passthrough mode';

guestTest(
  `copy-up from ${BELOW} keeps data, mode, owner, times and attributes (E1, E18)`,
  async (t, guest) => {
    needsMaxStackDepth(guest);
    await using client = await guest.client();
    const data = pattern(150_000);
    const fill = async (lower: string): Promise<void> => {
      await client.writeFile({ path: `${lower}/f`, data });
      await client.chown({ path: `${lower}/f`, uid: 1001, gid: 1002 });
      await client.chmod({ path: `${lower}/f`, mode: 0o6751 });
      for (const [name, data] of Object.entries(ATTRIBUTES)) {
        await client.setxattr({ path: `${lower}/f`, name, data });
      }
      await client.utimens({ path: `${lower}/f`, atimeNs: 1e15 + 123_000, mtimeNs: 2e15 + 456_000 });
    };
    await using layers = await overlayOn(guest, client, { below: BELOW, fill });
    const path = layers.overlay.file('f');
    const before = await identity(client, path);
    const { ino } = await client.stat({ path });
    // What changes nothing of the above still copies up.
    await client.setxattr({ path, name: 'trusted.other', data: 'new' });
    t.deepEqual(await client.readdir({ path: layers.upper }), ['f'], 'copied up');
    const after = await identity(client, path);
    t.deepEqual(after, before, 'through the overlay');
    t.deepEqual(await identity(client, `${layers.upper}/f`), before, 'in the upper layer');
    t.is((await client.stat({ path })).ino, ino, 'the inode number does not change (E18)');
    t.is(firstDifference(await client.readFile({ path: `${layers.upper}/f` }), data), undefined, 'data');
    t.is(text(await client.getxattr({ path, name: 'trusted.other' })), 'new');
    for (const [name, value] of Object.entries(ATTRIBUTES)) {
      t.is(text(await client.getxattr({ path: `${layers.upper}/f`, name })), value, name);
    }
    t.is(await client.errno.getxattr({ path: `${layers.lower}/f`, name: 'trusted.other' }), 'ENODATA');
    t.deepEqual(
      (await client.listxattr({ path })).sort(),
      ['trusted.other', ...Object.keys(ATTRIBUTES)].sort(),
      'no more than that',
    );
    t.deepEqual(await layers.fuse?.dataRequests(), []);
  },
);

guestTest(
  `removed names of ${BELOW} are whiteouts, a directory made anew is opaque, and lists are merged (E1)`,
  async (t, guest) => {
    needsMaxStackDepth(guest);
    await using client = await guest.client();
    const fill = async (lower: string): Promise<void> => {
      for (const name of ['d', 'again']) await client.mkdir({ path: `${lower}/${name}` });
      for (const name of ['d/kept', 'd/removed', 'again/old', 'both']) {
        await client.writeFile({ path: `${lower}/${name}`, data: 'lower' });
      }
    };
    await using layers = await overlayOn(guest, client, { below: BELOW, fill });
    const { overlay, upper, lower } = layers;
    await client.unlink({ path: overlay.file('d/removed') });
    await client.writeFile({ path: overlay.file('d/added'), data: 'upper' });
    await client.writeFile({ path: overlay.file('both'), data: 'upper' });
    t.deepEqual(await client.readdir({ path: overlay.file('d') }), ['added', 'kept'], 'merged');
    const whiteout = await client.lstat({ path: `${upper}/d/removed` });
    t.deepEqual(
      [whiteout.mode & 0o170000, whiteout.rdevMajor, whiteout.rdevMinor],
      [0o020000, 0, 0],
      'a whiteout',
    );
    t.is(await client.errno.stat({ path: overlay.file('d/removed') }), 'ENOENT');

    await client.unlink({ path: overlay.file('again/old') });
    await client.rmdir({ path: overlay.file('again') });
    t.is(await client.errno.stat({ path: overlay.file('again') }), 'ENOENT');
    await client.mkdir({ path: overlay.file('again') });
    t.deepEqual(await client.readdir({ path: overlay.file('again') }), [], 'opaque');
    const opaque = await client.getxattr({ path: `${upper}/again`, name: 'trusted.overlay.opaque' });
    t.is(text(opaque), 'y');
    t.is(await client.errno.rmdir({ path: overlay.file('d') }), 'ENOTEMPTY');
    t.deepEqual(await client.readdir({ path: overlay.path }), ['again', 'both', 'd'], 'each name once');
    t.deepEqual(
      await client.readdir({ path: `${lower}/d` }),
      ['kept', 'removed'],
      'the lower layer is as it was',
    );
    t.is(text(await client.readFile({ path: `${lower}/both` })), 'lower');
  },
);

for (const below of PLACES) {
  guestTest(
    `renames and links over ${below} move and share what they name (E1, E16, E17)`,
    async (t, guest) => {
      if (below !== 'ext4') needsMaxStackDepth(guest);
      await using client = await guest.client();
      const fill = async (lower: string): Promise<void> => {
        await client.mkdir({ path: `${lower}/d` });
        await client.writeFile({ path: `${lower}/d/inside`, data: 'inside' });
        for (const name of ['one', 'two']) await client.writeFile({ path: `${lower}/${name}`, data: name });
        await client.link({ from: `${lower}/one`, to: `${lower}/other` });
      };
      const options = 'redirect_dir=on';
      await using layers = await overlayOn(guest, client, { below, options, fill });
      const { overlay, upper, lower } = layers;
      const read = async (name: string) => text(await client.readFile({ path: overlay.file(name) }));

      await client.rename({ from: overlay.file('d'), to: overlay.file('moved') });
      t.is(await read('moved/inside'), 'inside', 'a directory of the lower layer');
      const redirect = await client.getxattr({ path: `${upper}/moved`, name: 'trusted.overlay.redirect' });
      t.is(text(redirect), 'd');
      t.is(await client.errno.stat({ path: overlay.file('d') }), 'ENOENT');
      await client.rename({ from: overlay.file('two'), to: overlay.file('one') });
      t.is(await read('one'), 'two', 'over a file of the lower layer');
      t.is(await read('other'), 'one', 'its other link is not touched');
      const exchange = { from: overlay.file('one'), to: overlay.file('other'), flags: 'RENAME_EXCHANGE' };
      await client.rename(exchange);
      t.deepEqual([await read('one'), await read('other')], ['one', 'two'], 'exchanged');

      await client.link({ from: overlay.file('moved/inside'), to: overlay.file('linked') });
      await client.writeFile({ path: overlay.file('linked'), data: 'OUTSIDE', flags: 'O_WRONLY' });
      t.is(await read('moved/inside'), 'OUTSIDE', 'a link shares data');
      const [a, b] = [
        await client.stat({ path: overlay.file('linked') }),
        await client.stat({ path: overlay.file('moved/inside') }),
      ];
      t.deepEqual([a.ino, a.nlink], [b.ino, 2]);
      t.is(text(await client.readFile({ path: `${lower}/d/inside` })), 'inside');
      t.deepEqual(await client.readdir({ path: overlay.path }), ['linked', 'moved', 'one', 'other']);
      if (layers.fuse) t.deepEqual(await layers.fuse.dataRequests(), []);
    },
  );

  guestTest(
    `with metacopy a change of mode leaves the data in ${below} until it is written (E16)`,
    async (t, guest) => {
      if (below !== 'ext4') needsMaxStackDepth(guest);
      await using client = await guest.client();
      const data = pattern(50_000);
      const fill = async (lower: string): Promise<void> => {
        await client.writeFile({ path: `${lower}/f`, data });
      };
      const options = 'metacopy=on,redirect_dir=on';
      await using layers = await overlayOn(guest, client, { below, options, fill });
      const { overlay, upper } = layers;
      await client.chmod({ path: overlay.file('f'), mode: 0o600 });
      t.is(
        await client.errno.getxattr({ path: `${upper}/f`, name: 'trusted.overlay.metacopy' }),
        'ok',
        'metadata only',
      );
      const hole = await client.readFile({ path: `${upper}/f` });
      t.true(hole.length === data.length && hole.every((byte) => byte === 0), 'no data in the upper layer');
      t.is((await client.stat({ path: overlay.file('f') })).size, data.length);
      t.is(
        firstDifference(await client.readFile({ path: overlay.file('f') }), data),
        undefined,
        'read from below',
      );

      await client.writeFile({ path: overlay.file('f'), data: 'start', flags: 'O_WRONLY' });
      data.set(Buffer.from('start'));
      t.is(await client.errno.getxattr({ path: `${upper}/f`, name: 'trusted.overlay.metacopy' }), 'ENODATA');
      t.is(firstDifference(await client.readFile({ path: `${upper}/f` }), data), undefined, 'after a write');
      t.is((await client.stat({ path: overlay.file('f') })).mode & 0o777, 0o600);
      if (layers.fuse) t.deepEqual(await layers.fuse.dataRequests(), []);
    },
  );
}

guestTest.alone(
  'with index=on hard links of the lower layer stay one file when they are copied up (E17)',
  async (t, guest) => {
    await using client = await guest.client();
    const fill = async (lower: string): Promise<void> => {
      await client.writeFile({ path: `${lower}/one`, data: 'lower' });
      await client.link({ from: `${lower}/one`, to: `${lower}/other` });
    };
    await using layers = await overlayOn(guest, client, {
      below: 'ext4',
      options: 'index=on,nfs_export=on',
      fill,
    });
    await using fuse = await guest.mountFuse({ root: layers.overlay.path, init: { maxStackDepth: 2 } });
    await client.writeFile({ path: fuse.file('one'), data: 'UPPER', flags: 'O_WRONLY' });
    t.is(
      text(await client.readFile({ path: layers.overlay.file('other') })),
      'UPPER',
      'through the other name',
    );
    t.is(text(await client.readFile({ path: fuse.file('other') })), 'UPPER', 'through FUSE');
    const { nlink, ino } = await client.stat({ path: layers.overlay.file('one') });
    t.is(nlink, 2);
    t.is((await client.stat({ path: layers.overlay.file('other') })).ino, ino);
    t.is(text(await client.readFile({ path: `${layers.lower}/other` })), 'lower');
    t.deepEqual(await fuse.dataRequests(), []);
  },
);
