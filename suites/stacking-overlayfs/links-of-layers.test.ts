import { text } from '../lib/bytes.ts';
import { dropCaches } from '../lib/drop-caches.ts';
import { guestTest } from '../lib/guest-test.ts';
import { fill, layersOf } from '../lib/layers.ts';
import { INDEX_DIR, indexEntries, layersOnFuse } from '../lib/overlay-on-fuse.ts';
import { upperOn } from '../lib/stack.ts';

/** Lower files of two names: when these are one file on the overlay, and what an index keeps of it. */

guestTest(
  'two names of a lower file are one file where nothing is copied up or an index keeps it one, else they are two',
  async (t, guest) => {
    await using client = await guest.client();
    const [lower = '', other = ''] = await layersOf(guest, 2);
    await fill(client, lower, ['a']);
    await client.link({ from: `${lower}/a`, to: `${lower}/b` });
    for (const [what, layers, locked] of [
      ['without an upper layer', { lower: [lower, other] }, 'EAGAIN'],
      ['with an index', { lower, ...(await upperOn(guest)), options: 'index=on' }, 'EAGAIN'],
      ['with an upper layer alone', { lower, ...(await upperOn(guest)), options: 'index=off' }, 'ok'],
    ] as const) {
      const { lower: below, ...more } = layers;
      const all = typeof below === 'string' ? below : [...below];
      await using overlay = await guest.mountOverlay({ lower: all, ...more }, client);
      const [one, two] = [
        await client.open({ path: overlay.file('a'), flags: 'O_RDONLY' }),
        await client.open({ path: overlay.file('b'), flags: 'O_RDONLY' }),
      ];
      await client.flock({ fd: one, operation: 'LOCK_EX' });
      const errno = await client.errno.flock({ fd: two, operation: 'LOCK_EX|LOCK_NB' });
      t.is(errno, locked, `${what}: a lock by the other name`);
      for (const fd of [one, two]) await client.close({ fd });
    }
  },
);

guestTest(
  'an index knows how many names a file has that was copied up by one of them (E17)',
  async (t, guest) => {
    await using client = await guest.client();
    const lower = await guest.directory('ext4', 'lower');
    const layers = await upperOn(guest);
    await fill(client, lower, ['a']);
    for (const name of ['b', 'c']) await client.link({ from: `${lower}/a`, to: `${lower}/${name}` });
    const mount = () => guest.mountOverlay({ lower, ...layers, options: 'index=on' }, client);
    {
      await using overlay = await mount();
      await client.chmod({ path: overlay.file('a'), mode: 0o604 });
      t.is((await client.stat({ path: overlay.file('a') })).nlink, 3, 'copied up');
    }
    for (const when of ['mounted again', 'and again']) {
      await using overlay = await mount();
      for (const name of ['b', 'a']) {
        t.is((await client.stat({ path: overlay.file(name) })).nlink, 3, `${when}: ${name}`);
      }
    }
  },
);

guestTest(
  'an index stores how many names a file has besides those below while a further upper name is made, and then besides those above (E17)',
  async (t, guest) => {
    await using client = await guest.client();
    await using other = await guest.client();
    await using layers = await layersOnFuse(guest, client);
    const { fuse } = layers;
    await fill(client, fuse.backing('lower'), ['a']);
    await client.link({ from: fuse.backing('lower/a'), to: fuse.backing('lower/b') });
    await using overlay = await layers.mount('index=on');
    const stored = async (): Promise<string> => {
      const [entry = ''] = await indexEntries(other, fuse);
      const path = fuse.backing(`${INDEX_DIR}/${entry}`);
      return text(await other.getxattr({ path, name: 'trusted.overlay.nlink' }));
    };
    // Above, the entry in the index is a name as well.
    for (const [name, then] of [
      ['a', 'U+0'],
      ['b', 'U-1'],
    ] as const) {
      const hold = await fuse.hold({ opcode: 'LINK', path: `/upper/${name}` });
      const copied = client.chmod({ path: overlay.file(name), mode: 0o600 });
      copied.catch(() => undefined);
      const link = await hold.arrived();
      t.is(await stored(), 'L+0', `${name}, when its name is to be made above`);
      await hold.stop();
      await hold.release(link);
      await copied;
      t.is(await stored(), then, `${name}, when it has been made`);
    }
  },
);

guestTest(
  'an index keeps a file whose only names left are those of the lower layer, with what was written to it (E17)',
  async (t, guest) => {
    await using client = await guest.client();
    const lower = await guest.directory('ext4', 'lower');
    const layers = await upperOn(guest);
    await fill(client, lower, ['a']);
    await client.link({ from: `${lower}/a`, to: `${lower}/b` });
    const mount = () => guest.mountOverlay({ lower, ...layers, options: 'index=on' }, client);
    {
      await using overlay = await mount();
      const path = overlay.file('a');
      await client.writeFile({ path, data: ', changed', flags: 'O_WRONLY|O_APPEND' });
      await client.unlink({ path });
    }
    t.deepEqual(await client.readdir({ path: layers.upper }), ['a'], 'a whiteout');
    await using overlay = await mount();
    const path = overlay.file('b');
    t.is(text(await client.readFile({ path })), 'a at the bottom, changed', 'mounted again');
    t.is((await client.stat({ path })).nlink, 1, 'its only name');
    t.deepEqual(await client.readdir({ path: overlay.path }), ['b']);
  },
);

guestTest(
  'a file that has a name more than was counted keeps it when all that were counted are removed (E17)',
  async (t, guest) => {
    await using client = await guest.client();
    const lower = await guest.directory('ext4', 'lower');
    const layers = await upperOn(guest);
    await fill(client, lower, ['a']);
    await client.link({ from: `${lower}/a`, to: `${lower}/b` });
    await using overlay = await guest.mountOverlay({ lower, ...layers, options: 'index=on' }, client);
    const { nlink } = await client.stat({ path: overlay.file('a') });
    t.is(nlink, 2);
    // Known to the overlay while its entry is in memory alone.
    await client.link({ from: `${lower}/a`, to: `${lower}/c` });
    await client.chmod({ path: overlay.file('c'), mode: 0o604 });
    await dropCaches(client, 'names and inodes');
    for (const name of ['a', 'b']) await client.unlink({ path: overlay.file(name) });
    const left = await client.stat({ path: overlay.file('c') });
    t.deepEqual([left.nlink, left.mode & 0o777], [1, 0o604], 'counted anew');
    t.is(text(await client.readFile({ path: overlay.file('c') })), 'a at the bottom');
  },
);
