import { text } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import { eventually } from '../lib/eventually.ts';
import { guestTest } from '../lib/guest-test.ts';
import { fill, layersOf, over } from '../lib/layers.ts';
import { layersOnFuse, upperOnFuse } from '../lib/overlay-on-fuse.ts';
import type { StackedMount } from '../lib/stacked-mount.ts';
import { upperOn } from '../lib/stack.ts';

/** Changes of an overlay that its upper layer does not make, or not yet. */

type Change = (client: Client, overlay: StackedMount) => Promise<string>;

/** `low` files are of the lower layer, `up` ones of the upper. */
const CHANGES: Readonly<Record<string, Change>> = {
  'a new file': (client, overlay) => client.errno.creat({ path: overlay.file('new') }),
  'a new mode, lower': (client, overlay) => client.errno.chmod({ path: overlay.file('low'), mode: 0o600 }),
  'a new mode, upper': (client, overlay) => client.errno.chmod({ path: overlay.file('up'), mode: 0o600 }),
  'an open for writing, lower': (client, overlay) =>
    client.errno.open({ path: overlay.file('low'), flags: 'O_RDWR' }),
  'a removal, lower': (client, overlay) => client.errno.unlink({ path: overlay.file('low') }),
  'a removal, upper': (client, overlay) => client.errno.unlink({ path: overlay.file('up') }),
  'a removal, a lower file of two names': (client, overlay) =>
    client.errno.unlink({ path: overlay.file('low1') }),
  'a removal, a directory': (client, overlay) => client.errno.rmdir({ path: overlay.file('lowdir') }),
  'a link': (client, overlay) => client.errno.link({ from: overlay.file('up'), to: overlay.file('new') }),
  'a new name': (client, overlay) =>
    client.errno.rename({ from: overlay.file('up'), to: overlay.file('new') }),
  'an attribute, lower': (client, overlay) =>
    client.errno.setxattr({ path: overlay.file('low'), name: 'user.more', data: 'x' }),
  'an attribute, upper': (client, overlay) =>
    client.errno.setxattr({ path: overlay.file('up'), name: 'user.more', data: 'x' }),
  'an attribute removed, lower': (client, overlay) =>
    client.errno.removexattr({ path: overlay.file('low'), name: 'user.word' }),
  'an attribute removed, upper': (client, overlay) =>
    client.errno.removexattr({ path: overlay.file('up'), name: 'user.word' }),
};

guestTest(
  'when the filesystem of the upper layer becomes read-only nothing can be changed, and all of it later',
  async (t, guest) => {
    await using client = await guest.client();
    await using layers = await layersOnFuse(guest, client);
    const { fuse } = layers;
    await fill(client, fuse.root, ['lower/low', 'lower/low1', 'lower/lowdir/', 'upper/up']);
    await client.link({ from: fuse.backing('lower/low1'), to: fuse.backing('lower/low2') });
    for (const name of ['lower/low', 'upper/up']) {
      await client.setxattr({ path: fuse.backing(name), name: 'user.word', data: 'value' });
    }
    const remount = (flags: string) => client.mount({ source: '', target: fuse.path, type: '', flags });
    await using overlay = await layers.mount('index=on');
    // Each is looked up before, with what an overlay keeps of that in the upper layer.
    const before = await client.tree({ path: overlay.path });
    await remount('MS_REMOUNT|MS_RDONLY');
    for (const [what, change] of Object.entries(CHANGES)) t.is(await change(client, overlay), 'EROFS', what);
    const after = await client.tree({ path: overlay.path });
    t.deepEqual(
      after.map(({ path, content, xattrs, stat }) => [path, content, xattrs, stat.mode]),
      before.map(({ path, content, xattrs, stat }) => [path, content, xattrs, stat.mode]),
    );
    await remount('MS_REMOUNT');
    t.is(await client.errno.chmod({ path: overlay.file('low1'), mode: 0o600 }), 'ok', 'later');
    t.is(await client.errno.removexattr({ path: overlay.file('up'), name: 'user.word' }), 'ok', 'later');
  },
);

guestTest(
  'an attribute of a lower file is removed in a copy of it, and one that nobody can keep is not set (A45)',
  async (t, guest) => {
    await using client = await guest.client();
    await using stack = await upperOnFuse(guest, client);
    const { overlay, fuse, lower } = stack;
    await fill(client, lower, ['f']);
    for (const name of ['user.gone', 'user.kept']) {
      await client.setxattr({ path: `${lower}/f`, name, data: 'value' });
    }
    const path = overlay.file('f');
    // A copy comes into the layer without a name first, or by another one.
    const permit = await fuse.fail({ opcode: ['TMPFILE', 'MKNOD', 'CREATE', 'LINK'] }, 'EDQUOT');
    t.is(await client.errno.setxattr({ path, name: 'user.more', data: 'x' }), 'EDQUOT', 'set');
    t.is(await client.errno.removexattr({ path, name: 'user.gone' }), 'EDQUOT', 'removed');
    t.deepEqual((await client.listxattr({ path })).toSorted(), ['user.gone', 'user.kept']);
    await permit();
    t.is(await client.errno.removexattr({ path, name: 'user.gone' }), 'ok');
    t.deepEqual(await client.listxattr({ path }), ['user.kept'], 'on the overlay');
    t.deepEqual(
      (await client.listxattr({ path: `${lower}/f` })).toSorted(),
      ['user.gone', 'user.kept'],
      'in the lower layer',
    );
    t.is(text(await client.readFile({ path: fuse.backing('upper/f') })), 'f at the bottom', 'copied up');
    t.is(await client.errno.removexattr({ path, name: 'user.gone' }), 'ENODATA', 'once more');
  },
);

/** Of a name with this prefix, the overlay needs eight bytes more in the layer (XATTR_NAME_MAX, linux/limits.h). */
const [PREFIX, MOST, ESCAPE] = ['trusted.overlay.', 255, 'overlay.'];

guestTest(
  'an attribute with the name of a mark may be as long as leaves room for what it is called in the layer',
  async (t, guest) => {
    guest.needs(guest.expected.hasIoModes, 'attributes of an overlay that are called like its marks');
    await using client = await guest.client();
    const lower = await guest.directory('ext4', 'lower');
    await fill(client, lower, ['f']);
    const layers = await upperOn(guest);
    await using overlay = await guest.mountOverlay({ lower, ...layers }, client);
    const path = overlay.file('f');
    const named = (length: number) => PREFIX + 'n'.repeat(length - PREFIX.length);
    const longest = named(MOST - ESCAPE.length);
    t.is(await client.errno.setxattr({ path, name: longest, data: 'value' }), 'ok');
    t.is(text(await client.getxattr({ path, name: longest })), 'value');
    for (const length of [MOST - ESCAPE.length + 1, MOST]) {
      t.is(await client.errno.setxattr({ path, name: named(length), data: 'x' }), 'EOPNOTSUPP', `${length}`);
      t.is(await client.errno.getxattr({ path, name: named(length) }), 'EOPNOTSUPP', `${length}, read`);
    }
    const inLayer = longest.replace(PREFIX, PREFIX + ESCAPE);
    t.is(text(await client.getxattr({ path: `${layers.upper}/f`, name: inLayer })), 'value');
    t.deepEqual(await client.listxattr({ path }), [longest]);
    t.true((await client.listxattrSize({ path })) >= longest.length + 1, 'how much the names take');
  },
);

guestTest(
  'nothing is replaced on an overlay whose work directory was moved into its upper layer',
  async (t, guest) => {
    await using client = await guest.client();
    const lower = await guest.directory('ext4', 'lower');
    await fill(client, lower, ['gone/', 'low']);
    const { upper, work } = await upperOn(guest);
    await using overlay = await guest.mountOverlay({ lower, upper, work }, client);
    await client.rmdir({ path: overlay.file('gone') });
    const moved = { from: work, to: `${upper}/moved` };
    await client.rename(moved);
    t.is(
      await client.errno.mkdir({ path: overlay.file('gone') }),
      'EIO',
      'a directory where one was removed',
    );
    await client.rename({ from: moved.to, to: moved.from });
    t.is(await client.errno.mkdir({ path: overlay.file('gone') }), 'ok', 'moved back');
    t.deepEqual(await client.readdir({ path: overlay.path }), ['gone', 'low']);
  },
);

// --- who waits for a copy-up ----------------------------------------------------------------------------

guestTest(
  'who waits for a file to be copied up finds it copied up, and may be killed while it is not',
  async (t, guest) => {
    await using client = await guest.client();
    await using first = await guest.client();
    await using second = await guest.client();
    await using stack = await upperOnFuse(guest, client);
    const { overlay, fuse, lower } = stack;
    await fill(client, lower, ['f', 'g']);
    const waits: Readonly<Record<string, (by: Client) => Promise<string>>> = {
      chmod: (by) => by.errno.chmod({ path: overlay.file('g'), mode: 0o640 }),
      unlink: (by) => by.errno.unlink({ path: overlay.file('g') }),
    };
    const waiting = (by: Client) =>
      eventually(
        () => guest.where(by.pid),
        (where) => /ovl_copy_up_start|ovl_nlink_start/.test(where),
      );
    // Unlike chmod, an open does not hold the lock that anybody else would wait for already.
    const copyUp = (name: string) => first.open({ path: overlay.file(name), flags: 'O_RDWR' });
    {
      const after = await fuse.position();
      const hold = await fuse.hold('WRITE');
      const copying = copyUp('f');
      const write = await hold.arrived();
      const joining = second.errno.chmod({ path: overlay.file('f'), mode: 0o600 });
      t.regex(await waiting(second), /ovl_copy_up_start/);
      await hold.stop();
      await hold.release(write);
      await first.close({ fd: await copying });
      t.is(await joining, 'ok');
      t.is((await fuse.opcodes({ opcode: 'WRITE', after })).length, 1, 'copied once');
      t.is((await client.stat({ path: fuse.backing('upper/f') })).mode & 0o777, 0o600);
    }
    const hold = await fuse.hold('WRITE');
    const copying = copyUp('g');
    const write = await hold.arrived();
    for (const [what, wait] of Object.entries(waits)) {
      await using killed = await guest.client();
      const outcome = wait(killed).catch(() => 'gone');
      t.regex(await waiting(killed), /ovl_copy_up_start|ovl_nlink_start/, what);
      await killed.kill('SIGKILL');
      t.like(await killed.exited(), { signal: 'SIGKILL' }, what);
      t.is(await outcome, 'gone', what);
    }
    await hold.stop();
    await hold.release(write);
    await first.close({ fd: await copying });
    t.is(text(await client.readFile({ path: overlay.file('g') })), 'g at the bottom', 'it is there');
  },
);

// --- links that an index knows of -----------------------------------------------------------------------

guestTest(
  'a link that the lower layer has got meanwhile does not take the file of the other names away (E17)',
  async (t, guest) => {
    await using client = await guest.client();
    const layers = await layersOf(guest, 2);
    const [lower = '', upper = ''] = layers;
    await fill(client, lower, ['a']);
    await client.link({ from: `${lower}/a`, to: `${lower}/b` });
    await using overlay = await over(guest, client, layers, 'index=on');
    const nlink = async (name: string) => (await client.stat({ path: overlay.file(name) })).nlink;
    const append = async (name: string, data: string) =>
      client.writeFile({ path: overlay.file(name), data, flags: 'O_WRONLY|O_APPEND' });
    await append('a', ', more');
    await append('b', ' and more');
    t.is(await nlink('a'), 2);
    await client.link({ from: `${lower}/b`, to: `${lower}/c` });
    t.is(text(await client.readFile({ path: overlay.file('c') })), 'a at the bottom, more and more');
    for (const name of ['c', 'a']) await client.unlink({ path: overlay.file(name) });
    t.is(await nlink('b'), 1, 'counted anew');
    t.is(text(await client.readFile({ path: overlay.file('b') })), 'a at the bottom, more and more');
    await client.unlink({ path: overlay.file('b') });
    t.deepEqual(await client.readdir({ path: overlay.path }), []);
    t.deepEqual(await client.readdir({ path: upper }), ['a', 'b', 'c'], 'whiteouts');
  },
);

guestTest(
  'a name of a file of two is not removed when its links cannot be counted (E17)',
  async (t, guest) => {
    await using client = await guest.client();
    await using layers = await layersOnFuse(guest, client);
    const { fuse } = layers;
    await fill(client, fuse.backing('lower'), ['a', 'c']);
    for (const [from, to] of [
      ['a', 'b'],
      ['c', 'd'],
    ] as const) {
      await client.link({ from: fuse.file(`lower/${from}`), to: fuse.file(`lower/${to}`) });
    }
    await using overlay = await layers.mount('index=on');
    await client.chmod({ path: overlay.file('a'), mode: 0o600 });
    for (const [name, opcode, what] of [
      ['a', 'SETXATTR', 'the count cannot be kept'],
      ['c', 'LINK', 'it cannot be copied up'],
    ] as const) {
      const permit = await fuse.fail({ opcode }, 'EDQUOT');
      t.is(await client.errno.unlink({ path: overlay.file(name) }), 'EDQUOT', what);
      t.is((await client.stat({ path: overlay.file(name) })).nlink, 2, `${what}: it has both names`);
      await permit();
      t.is(await client.errno.unlink({ path: overlay.file(name) }), 'ok', `${what}: later`);
    }
    t.deepEqual(await client.readdir({ path: overlay.path }), ['b', 'd']);
  },
);
