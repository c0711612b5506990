import type { Client } from '../lib/client.ts';
import { guestTest } from '../lib/guest-test.ts';
import { fill, layersOf, over } from '../lib/layers.ts';
import { layersOnFuse, upperOnFuse, WORK_DIR } from '../lib/overlay-on-fuse.ts';

/**
 * Directories of the upper layer that are moved without the overlay. Results are undefined, but not a crash or a
 * deadlock (overlayfs.rst, "Changes to underlying filesystems"), and what cannot be done is refused.
 */

interface Moved {
  readonly what: string;
  /** In the upper layer, where `a/`, `b/` and `dir/` with a whiteout are, and in `b` a directory `x`. */
  readonly beneath: { readonly from: string; readonly to: string };
  readonly change: (client: Client, at: string) => Promise<string>;
}

const MOVED: readonly Moved[] = [
  {
    what: 'a directory is not renamed into one that is in it',
    beneath: { from: 'b', to: 'a/b' },
    change: (client, at) => client.errno.rename({ from: `${at}/a`, to: `${at}/b/a` }),
  },
  {
    what: 'a directory does not take the place of one that it is in',
    beneath: { from: 'b', to: 'a/b' },
    change: (client, at) => client.errno.rename({ from: `${at}/b/x`, to: `${at}/a` }),
  },
  {
    what: 'a directory with whiteouts that is in another one is not removed',
    beneath: { from: 'dir', to: 'a/dir' },
    change: (client, at) => client.errno.rmdir({ path: `${at}/dir` }),
  },
  {
    what: 'a directory with whiteouts that is in another one is not replaced',
    beneath: { from: 'dir', to: 'a/dir' },
    change: (client, at) => client.errno.rename({ from: `${at}/b/x`, to: `${at}/dir` }),
  },
];

guestTest('after a move in the upper layer its directories are where they are: ESTALE', async (t, guest) => {
  await using client = await guest.client();
  for (const { what, beneath, change } of MOVED) {
    const layers = await layersOf(guest, 2);
    const [lower = '', upper = ''] = layers;
    await fill(client, lower, ['dir/', 'dir/f']);
    await using overlay = await over(guest, client, layers);
    await fill(client, overlay.path, ['a/', 'b/', 'b/x/']);
    await client.unlink({ path: overlay.file('dir/f') });
    const tree = async () => (await client.tree({ path: upper })).map(({ path }) => path);
    for (const name of ['a', 'b/x', 'dir']) await client.stat({ path: overlay.file(name) });
    await client.rename({ from: `${upper}/${beneath.from}`, to: `${upper}/${beneath.to}` });
    const before = await tree();
    t.is(await change(client, overlay.path), 'ESTALE', what);
    t.deepEqual(await tree(), before, what);
    await client.rename({ from: `${upper}/${beneath.to}`, to: `${upper}/${beneath.from}` });
    t.is(await client.errno.rmdir({ path: overlay.file('dir') }), 'ok', `${what}: moved back`);
  }
});

guestTest('a directory is not copied up over one that has come, which stays as it is', async (t, guest) => {
  await using client = await guest.client();
  const layers = await layersOf(guest, 2);
  const [lower = '', upper = ''] = layers;
  await fill(client, lower, ['d/']);
  await using overlay = await over(guest, client, layers);
  await client.stat({ path: overlay.file('d') });
  await fill(client, upper, ['d/', 'd/another']);
  // The older kernels leave it to the filesystem to refuse what is not empty.
  const refused = guest.expected.overlaysWithDataLayers ? 'EEXIST' : 'ENOTEMPTY';
  t.is(await client.errno.chmod({ path: overlay.file('d'), mode: 0o700 }), refused);
  t.deepEqual(await client.readdir({ path: `${upper}/d` }), ['another']);
  await client.rename({ from: `${upper}/d`, to: `${upper}/elsewhere` });
  t.is(await client.errno.chmod({ path: overlay.file('d'), mode: 0o700 }), 'ok', 'when it has gone');
});

guestTest(
  'a name that has come in the upper layer is not replaced by a copy of an empty directory',
  async (t, guest) => {
    guest.needs(guest.expected.overlaysWithDataLayers, 'copies that never replace what has come');
    await using client = await guest.client();
    const layers = await layersOf(guest, 2);
    const [lower = '', upper = ''] = layers;
    await fill(client, lower, ['d/']);
    await using overlay = await over(guest, client, layers);
    await client.stat({ path: overlay.file('d') });
    await client.mkdir({ path: `${upper}/d` });
    const { ino } = await client.stat({ path: `${upper}/d` });
    t.is(await client.errno.chmod({ path: overlay.file('d'), mode: 0o700 }), 'EEXIST');
    t.is((await client.stat({ path: `${upper}/d` })).ino, ino, 'it is the same');
  },
);

/** What needs the work directory, of `low`, `low-dir/`, `gone`, which was removed, and `dir/`, which has a whiteout. */
const WORKS: Readonly<Record<string, (client: Client, at: string) => Promise<string>>> = {
  'a directory copied up': (client, at) => client.errno.chmod({ path: `${at}/low-dir`, mode: 0o700 }),
  'a fifo copied up': (client, at) => client.errno.chmod({ path: `${at}/fifo`, mode: 0o600 }),
  'a file made where one was removed': (client, at) => client.errno.creat({ path: `${at}/gone` }),
  'a lower file removed': (client, at) => client.errno.unlink({ path: `${at}/low` }),
  'a directory with whiteouts replaced': (client, at) =>
    client.errno.rename({ from: `${at}/new`, to: `${at}/dir` }),
  'another directory with whiteouts removed': (client, at) => client.errno.rmdir({ path: `${at}/dir2` }),
};

guestTest(
  'what needs a work directory is refused while that is in the upper layer, and then done',
  async (t, guest) => {
    await using client = await guest.client();
    const layers = await layersOf(guest, 2);
    const [lower = '', upper = ''] = layers;
    const work = await guest.directory('ext4', 'work');
    await fill(client, lower, ['low', 'low-dir/', 'gone', 'dir/', 'dir/f', 'dir2/', 'dir2/f']);
    await client.mknod({ path: `${lower}/fifo`, mode: 0o010_644 });
    await using overlay = await guest.mountOverlay({ lower, upper, work }, client);
    for (const name of ['gone', 'dir/f', 'dir2/f']) await client.unlink({ path: overlay.file(name) });
    await client.mkdir({ path: overlay.file('new') });
    const tree = async () => (await client.tree({ path: overlay.path })).map(({ path, ino }) => [path, ino]);
    const moved = { from: work, to: `${upper}/moved` };
    const before = await tree();
    for (const [what, change] of Object.entries(WORKS)) {
      await client.rename(moved);
      t.is(await change(client, overlay.path), 'EIO', what);
      await client.rename({ from: moved.to, to: moved.from });
    }
    t.deepEqual(await tree(), before, 'what there is');
    for (const [what, change] of Object.entries(WORKS)) {
      t.is(await change(client, overlay.path), 'ok', `${what}: moved back`);
    }
  },
);

guestTest(
  'a copy that is moved out of the work directory while it is made does not get its name',
  async (t, guest) => {
    guest.needs(guest.expected.overlaysWithDataLayers, 'copying without the lock of the work directory');
    await using client = await guest.client();
    await using other = await guest.client();
    const rules = [{ match: { opcode: 'TMPFILE' }, action: { do: 'error', errno: 'EOPNOTSUPP' } }] as const;
    await using layers = await layersOnFuse(guest, client, { rules });
    const { fuse } = layers;
    await fill(client, fuse.backing('lower'), ['f']);
    await using overlay = await layers.mount();
    const hold = await fuse.hold({ opcode: 'READ', path: '/lower/f' });
    const copied = other.errno.open({ path: overlay.file('f'), flags: 'O_RDWR' });
    const read = await hold.arrived();
    const [name = ''] = await client.readdir({ path: fuse.backing(WORK_DIR) });
    await client.rename({ from: fuse.file(`${WORK_DIR}/${name}`), to: fuse.file('aside') });
    await hold.stop();
    await hold.release(read);
    t.is(await copied, 'EIO');
    t.deepEqual(await client.readdir({ path: fuse.backing('upper') }), []);
    t.is(await client.errno.stat({ path: fuse.backing('aside') }), 'ok', 'it is where it was moved');
    t.is(
      await other.errno.open({ path: overlay.file('f'), flags: 'O_RDWR' }),
      'ok',
      'and then it can be copied',
    );
  },
);

/** Of `d`, which is merged and has a whiteout: what empties it first, and the name it has in the upper layer then. */
const EMPTIES: Readonly<
  Record<string, { name: string; change: (client: Client, at: string) => Promise<string>; left: string }>
> = {
  'a directory that is removed': {
    name: 'd',
    change: (client, at) => client.errno.rmdir({ path: `${at}/d` }),
    left: 'whiteout',
  },
  'a directory that is removed under a new name': {
    name: 'moved',
    change: (client, at) => client.errno.rmdir({ path: `${at}/moved` }),
    left: 'ENOENT',
  },
  'a directory that is replaced': {
    name: 'd',
    change: (client, at) => client.errno.rename({ from: `${at}/new`, to: `${at}/d` }),
    left: 'new',
  },
};

guestTest(
  'a directory that is not found after it was emptied is looked up again, and then changed',
  async (t, guest) => {
    await using client = await guest.client();
    for (const [what, { name, change, left }] of Object.entries(EMPTIES)) {
      await using stack = await upperOnFuse(guest, client, 'redirect_dir=on');
      const { overlay, fuse, lower } = stack;
      await fill(client, lower, ['d/', 'd/x']);
      await client.unlink({ path: overlay.file('d/x') });
      await fill(client, overlay.path, ['new/', 'new/y']);
      if (name === 'moved') await client.rename({ from: overlay.file('d'), to: overlay.file('moved') });
      const hold = await fuse.hold('RENAME2');
      const changed = change(client, overlay.path);
      const exchange = await hold.arrived();
      const found = { opcode: 'LOOKUP', path: `/upper/${name}` } as const;
      // When it is asked for again, and when it is then looked up as a new name.
      await fuse.fail(found, 'ENOENT', 2);
      await hold.stop();
      await hold.release(exchange);
      t.is(await changed, 'ok', what);
      // By the overlay itself, and by the walk to it.
      const asked = await fuse.requests({ ...found, after: exchange.seq });
      t.is(asked[0]?.reply?.error, 'ENOENT', what);
      t.true(asked.length > 2, `${what}: again`);
      const upper = fuse.backing(`upper/${name}`);
      const there = await client.errno.lstat({ path: upper });
      if (left === 'ENOENT') t.is(there, left, what);
      else if (left === 'whiteout')
        t.is((await client.lstat({ path: upper })).mode & 0o170_000, 0o020_000, what);
      else t.deepEqual(await client.readdir({ path: upper }), ['y'], what);
    }
  },
);
