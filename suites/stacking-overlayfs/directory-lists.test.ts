import type { Client } from '../lib/client.ts';
import { directoryAnswer, type DirectoryEntry } from '../lib/fuse-abi.ts';
import type { FuseMount } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';
import { fill, layersOf, over } from '../lib/layers.ts';
import { layersOnFuse } from '../lib/overlay-on-fuse.ts';
import { WITHOUT_PASSTHROUGH } from '../lib/registration.ts';
import { upperOn } from '../lib/stack.ts';

/** What directories of an overlay list: every name of their layers, with its number, and nothing else. */

/** Names that begin like the two dots, or are as long as they are. */
const DOTTED = ['.a', '..b', '...', '.ab', 'a.', 'ab'];

guestTest(
  'names that look like the two dots are listed with their own numbers, and count as names',
  async (t, guest) => {
    await using client = await guest.client();
    const layers = await layersOf(guest, 2);
    const [lower = '', upper = ''] = layers;
    await fill(client, lower, ['low/', 'merged/', 'f', ...DOTTED.map((name) => `merged/${name}`)]);
    await fill(client, upper, ['merged/', 'merged/pure/', ...DOTTED.map((name) => `merged/pure/${name}`)]);
    for (const name of DOTTED) await fill(client, lower, [`only${name}/`, `only${name}/${name}`]);
    await using overlay = await over(guest, client, layers);
    for (const name of DOTTED) await client.chmod({ path: overlay.file(`merged/${name}`), mode: 0o600 });
    await client.rename({ from: overlay.file('f'), to: overlay.file('merged/pure/.f') });
    let seen = 0;
    for (const { path, entry, ino, dot } of await client.tree({ path: overlay.path })) {
      if (entry !== null) t.is(entry.ino, ino, path);
      if (dot !== undefined) t.is(dot, ino, `${path}: its own`);
      seen += 1;
    }
    t.is(seen, 1 + 3 + DOTTED.length * 4 + 1);
    for (const name of DOTTED) {
      t.is(await client.errno.rmdir({ path: overlay.file(`only${name}`) }), 'ENOTEMPTY', name);
      await client.unlink({ path: overlay.file(`only${name}/${name}`) });
      t.is(await client.errno.rmdir({ path: overlay.file(`only${name}`) }), 'ok', `${name}: removed`);
    }
  },
);

guestTest(
  'a merged directory is sought from its beginning and from where it is, not from its end',
  async (t, guest) => {
    await using client = await guest.client();
    const layers = await layersOf(guest, 2);
    const [lower = '', upper = ''] = layers;
    await fill(client, lower, ['a', 'b']);
    await fill(client, upper, ['c', 'd']);
    await using overlay = await over(guest, client, layers);
    const open = () => client.open({ path: overlay.path, flags: 'O_RDONLY|O_DIRECTORY' });
    const fd = await open();
    const all = await client.readdirFd({ fd, bytes: 4096 });
    t.is(all.length, 6);
    t.is(await client.errno.lseek({ fd, offset: 0, whence: 'SEEK_END' }), 'EINVAL');
    t.is(await client.lseek({ fd, offset: 0, whence: 'SEEK_CUR' }), 6, 'where it was');
    t.is(await client.lseek({ fd, offset: -2, whence: 'SEEK_CUR' }), 4, 'back by two');
    t.deepEqual(await client.readdirFd({ fd, bytes: 4096 }), all.slice(4));
    const fresh = await open();
    t.is(await client.lseek({ fd: fresh, offset: 3, whence: 'SEEK_SET' }), 3, 'before anything is read');
    t.deepEqual(await client.readdirFd({ fd: fresh, bytes: 4096 }), all.slice(3));
    for (const each of [fd, fresh]) await client.close({ fd: each });
  },
);

guestTest(
  'a whiteout of a lower layer is no name of its directory, which can be removed',
  async (t, guest) => {
    await using client = await guest.client();
    const layers = await layersOf(guest, 3);
    const [bottom = '', middle = '', upper = ''] = layers;
    await fill(client, bottom, ['d/', 'd/a']);
    await fill(client, middle, ['d/']);
    await client.mknod({ path: `${middle}/d/a`, mode: 0o020_000 });
    await using overlay = await over(guest, client, layers);
    await fill(client, overlay.path, ['d/b']);
    t.deepEqual(await client.readdir({ path: overlay.file('d') }), ['b']);
    await client.unlink({ path: overlay.file('d/b') });
    t.is(await client.errno.rmdir({ path: overlay.file('d') }), 'ok');
    t.deepEqual(await client.readdir({ path: `${middle}/d` }), ['a'], 'the layer is as it was');
    t.deepEqual(await client.readdir({ path: upper }), ['d'], 'a whiteout');
  },
);

guestTest(
  'a directory whose layers are on two filesystems hides whiteouts that are attributes, and nothing else',
  async (t, guest) => {
    guest.needs(guest.expected.overlaysWithDataLayers, 'whiteouts that are attributes');
    await using client = await guest.client();
    const [top, base] = [await guest.directory('ext4', 'lower'), await guest.directory('tmpfs', 'lower')];
    for (const directory of ['d', 'e']) {
      await fill(client, base, [`${directory}/`, `${directory}/hidden`, `${directory}/low`]);
      await client.mkdir({ path: `${top}/${directory}` });
      await client.setxattr({ path: `${top}/${directory}`, name: 'trusted.overlay.opaque', data: 'x' });
      for (const name of ['hidden', 'empty']) {
        await client.writeFile({ path: `${top}/${directory}/${name}`, data: '' });
      }
      const path = `${top}/${directory}/hidden`;
      await client.setxattr({ path, name: 'trusted.overlay.whiteout', data: 'y' });
    }
    await using overlay = await guest.mountOverlay({ lower: [top, base] }, client);
    const tree = await client.tree({ path: overlay.path });
    t.deepEqual(
      tree.map(({ path }) => path),
      ['.', 'd', 'd/empty', 'd/low', 'e', 'e/empty', 'e/low'],
    );
    for (const { path, entry } of tree) {
      if (!path.includes('/')) continue;
      const layer = path.endsWith('low') ? base : top;
      t.is(entry?.ino, String((await client.stat({ path: `${layer}/${path}` })).ino), path);
    }
  },
);

// --- what a server lists ----------------------------------------------------------------------------------

const [DIRECTORY, FILE, DEVICE] = [4, 8, 2];
const DOTS: readonly DirectoryEntry[] = ['.', '..'].map((name) => ({ name, ino: 1n, type: DIRECTORY }));

/** A server that lists in `d` what it is told to, each time it is asked. */
async function mountLister(guest: TestGuest, client: Client): Promise<FuseMount> {
  const { dropFlags = [] } = WITHOUT_PASSTHROUGH;
  const init = { ...WITHOUT_PASSTHROUGH, dropFlags: [...dropFlags, 'DO_READDIRPLUS'] } as const;
  const fuse = await guest.mountFuse({ passthrough: 'off', init });
  await fill(client, fuse.root, ['d/']);
  return fuse;
}

/** For the next list of `d`: all names, then none. */
async function listOnce(fuse: FuseMount, entries: readonly DirectoryEntry[]): Promise<void> {
  const match = { opcode: 'READDIR', path: '/d' } as const;
  await fuse.rule({ match, action: { do: 'body', body: new Uint8Array() } });
  const body = directoryAnswer([...DOTS, ...entries]);
  await fuse.rule({ match, times: 1, action: { do: 'body', body } });
}

guestTest(
  'a device of a merged directory that cannot be looked up, or is not there, is no whiteout',
  async (t, guest) => {
    await using client = await guest.client();
    await using fuse = await mountLister(guest, client);
    const layers = await upperOn(guest);
    await fill(client, layers.upper, ['d/', 'd/above']);
    for (const name of ['broken', 'removed']) {
      await client.mknod({ path: fuse.backing(`d/${name}`), mode: 0o020_000 });
    }
    // With numbers that say the layer every name would be looked up for its own.
    const options = 'xino=off';
    await using overlay = await guest.mountOverlay({ lower: fuse.path, ...layers, options }, client);
    await fuse.fail({ opcode: 'LOOKUP', path: '/d/broken' }, 'EUCLEAN');
    const names = ['broken', 'ghost', 'removed'];
    await listOnce(fuse, [
      ...names.map((name, nth) => ({ name, ino: BigInt(100 + nth), type: DEVICE })),
      { name: 'a-file', ino: 200n, type: FILE },
      { name: 'a-directory', ino: 201n, type: DIRECTORY },
    ]);
    const listed = await client.readdir({ path: overlay.file('d') });
    t.deepEqual(listed, ['a-directory', 'a-file', 'above', 'broken', 'ghost']);
    const asked = (await fuse.requests('LOOKUP')).map(({ args }) => String(args['name']));
    t.true(
      names.every((name) => asked.includes(name)),
      asked.join(', '),
    );
    t.deepEqual(
      asked.filter((name) => name.startsWith('a-')),
      [],
      'what is listed as no device is not looked up for that',
    );
  },
);

/** Two bits of a number say which layer it is of: one for the filesystem, one for what has no lasting number. */
const NUMBERS = {
  small: [1000n, 1000n | (1n << 63n)],
  largest: [(1n << 62n) - 1n, ((1n << 62n) - 1n) | (1n << 63n)],
  'too large': [1n << 62n, 1n << 62n],
  'far too large': [(1n << 63n) | 7n, (1n << 63n) | 7n],
} as const;

for (const [kind, above] of Object.entries({ 'of one layer': [], merged: ['d/', 'd/above'] })) {
  guestTest(
    `with xino=on a directory that is ${kind} lists the layer in each number with room for it`,
    async (t, guest) => {
      await using client = await guest.client();
      await using fuse = await mountLister(guest, client);
      const layers = await upperOn(guest);
      await fill(client, layers.upper, above);
      await fill(
        client,
        fuse.root,
        Object.keys(NUMBERS).map((name) => `d/${name}`),
      );
      const options = 'xino=on';
      await using overlay = await guest.mountOverlay({ lower: fuse.path, ...layers, options }, client);
      await listOnce(
        fuse,
        Object.entries(NUMBERS).map(([name, [ino]]) => ({ name, ino, type: FILE })),
      );
      const tree = await client.tree({ path: overlay.file('d') });
      for (const [name, [, listed]] of Object.entries(NUMBERS)) {
        t.is(tree.find(({ path }) => path === name)?.entry?.ino, String(listed), name);
      }
    },
  );
}

const O_NOATIME = 0o1_000_000;

guestTest(
  'a directory is opened without access times in the layer of an owner, and of who may act as one',
  async (t, guest) => {
    await using client = await guest.client();
    await using plain = await guest.client({ launcher: ['setpriv', '--bounding-set', '-fowner'] });
    await using fuse = await guest.mountFuse({ passthrough: 'off', init: WITHOUT_PASSTHROUGH });
    await fill(client, fuse.root, ['own/', 'other/']);
    await client.chown({ path: fuse.backing('other'), uid: 1234, gid: 1234 });
    for (const [who, mounter, expected] of [
      ['root', client, { own: O_NOATIME, other: O_NOATIME }],
      ['root without CAP_FOWNER', plain, { own: O_NOATIME, other: 0 }],
    ] as const) {
      await using overlay = await guest.mountOverlay(
        { lower: fuse.path, ...(await upperOn(guest)) },
        mounter,
      );
      for (const [name, flag] of Object.entries(expected)) {
        const after = await fuse.position();
        await client.readdir({ path: overlay.file(name) });
        const [opened] = await fuse.requests({ opcode: 'OPENDIR', path: `/${name}`, after });
        t.is(Number(opened?.args['flags']) & O_NOATIME, flag, `${who}: ${name}`);
      }
    }
  },
);

guestTest(
  'the mark of a directory that has nothing from below any more goes when it is listed, if it can',
  async (t, guest) => {
    await using client = await guest.client();
    await using layers = await layersOnFuse(guest, client);
    const { fuse } = layers;
    await fill(client, fuse.root, ['upper/d/', 'upper/d/f']);
    const mark = { path: fuse.backing('upper/d'), name: 'trusted.overlay.impure' };
    await client.setxattr({ ...mark, data: 'y' });
    await using overlay = await layers.mount();
    const remount = (flags: string) => client.mount({ source: '', target: fuse.path, type: '', flags });
    t.is(await client.errno.stat({ path: overlay.file('d') }), 'ok');
    await remount('MS_REMOUNT|MS_RDONLY');
    t.deepEqual(await client.readdir({ path: overlay.file('d') }), ['f'], 'on a read-only filesystem');
    t.is(await client.errno.getxattr(mark), 'ok', 'it stays');
    await remount('MS_REMOUNT');
    t.is(await overlay.unmount(), 'ok');
    await using again = await layers.mount();
    t.deepEqual(await client.readdir({ path: again.file('d') }), ['f'], 'on one that is not');
    t.is(await client.errno.getxattr(mark), 'ENODATA', 'it is gone');
  },
);
