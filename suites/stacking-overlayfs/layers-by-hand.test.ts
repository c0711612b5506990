import { text } from '../lib/bytes.ts';
import { u32 } from '../lib/entry-answer.ts';
import { guestTest } from '../lib/guest-test.ts';
import { fill, layersOf, over } from '../lib/layers.ts';
import { WITHOUT_PASSTHROUGH } from '../lib/registration.ts';
import { upperOn } from '../lib/stack.ts';

/** What an overlay makes of its layers and leaves in them, seen where they are, and of layers changed without it. */

const LONG_AGO_NS = 1_500_000_000_000_000_000;
const MIB = 1024 * 1024;

guestTest('a file between two directories of its name hides the lower one', async (t, guest) => {
  await using client = await guest.client();
  const layers = await layersOf(guest, 4);
  const [bottom = '', middle = '', top = ''] = layers;
  await fill(client, bottom, ['n/', 'n/hidden', 'm/', 'm/hidden']);
  await fill(client, middle, ['n', 'm']);
  await fill(client, top, ['n/', 'n/seen']);
  await using overlay = await over(guest, client, layers);
  t.deepEqual(await client.readdir({ path: overlay.file('n') }), ['seen']);
  t.is(text(await client.readFile({ path: overlay.file('m') })), 'm at the bottom', 'and a file is one');
});

guestTest('a name that is too long for the layers is too long for the overlay', async (t, guest) => {
  await using client = await guest.client();
  await using overlay = await over(guest, client, await layersOf(guest, 2));
  t.is((await client.statfs({ path: overlay.path })).namelen, 255);
  for (const [length, found, made] of [
    [255, 'ENOENT', 'ok'],
    [256, 'ENAMETOOLONG', 'ENAMETOOLONG'],
  ] as const) {
    const path = overlay.file('n'.repeat(length));
    t.is(await client.errno.lstat({ path }), found, `${length} bytes`);
    t.is(await client.errno.creat({ path }), made, `${length} bytes, made`);
  }
});

guestTest(
  'the layer that takes the longest names decides how long those of the overlay are',
  async (t, guest) => {
    await using client = await guest.client();
    await using fuse = await guest.mountFuse({ passthrough: 'off', init: WITHOUT_PASSTHROUGH });
    await fill(client, fuse.root, ['lower/', 'upper/', 'work/']);
    // The longest name in `fuse_kstatfs`.
    await fuse.rule({ match: { opcode: 'STATFS' }, action: { do: 'patch', at: 44, bytes: u32(20) } });
    t.is((await client.statfs({ path: fuse.path })).namelen, 20);
    const other = await guest.directory('ext4', 'other');
    for (const [which, layers] of Object.entries({
      'the upper one': { lower: fuse.file('lower'), ...(await upperOn(guest)) },
      'the lower one': { lower: other, upper: fuse.file('upper'), work: fuse.file('work') },
      'the second of two lower ones': { lower: [fuse.file('lower'), other] },
    })) {
      await using overlay = await guest.mountOverlay(layers, client);
      t.is((await client.statfs({ path: overlay.path })).namelen, 255, which);
      t.is(await client.errno.lstat({ path: overlay.file('n'.repeat(100)) }), 'ENOENT', which);
    }
  },
);

guestTest('a large hole of a file that is copied up stays one', async (t, guest) => {
  await using client = await guest.client();
  const layers = await layersOf(guest, 2);
  const [lower = '', upper = ''] = layers;
  await client.writeFile({ path: `${lower}/f`, data: 'begin' });
  const fd = await client.open({ path: `${lower}/f`, flags: 'O_RDWR' });
  await client.pwrite({ fd, data: 'end', offset: 16 * MIB });
  await client.close({ fd });
  await using overlay = await over(guest, client, layers);
  await client.chmod({ path: overlay.file('f'), mode: 0o600 });
  const { size, blocks } = await client.stat({ path: `${upper}/f` });
  t.is(size, 16 * MIB + 3);
  // Copied in pieces of a MiB each, of which one and the last have data.
  t.true(blocks * 512 < 4 * MIB, `${blocks} blocks of 512 bytes`);
  const copied = await client.open({ path: `${upper}/f`, flags: 'O_RDONLY' });
  t.is(text(await client.pread({ fd: copied, count: 10, offset: 16 * MIB })), 'end');
  await client.close({ fd: copied });
});

guestTest(
  'metadata whose data are not there, or not to be looked for, is an error and no empty file (E4)',
  async (t, guest) => {
    await using client = await guest.client();
    const layers = await layersOf(guest, 2);
    const [lower = ''] = layers;
    await fill(client, lower, ['lost', 'kept']);
    {
      await using overlay = await over(guest, client, layers, 'metacopy=on,redirect_dir=on');
      for (const name of ['lost', 'kept']) await client.chmod({ path: overlay.file(name), mode: 0o600 });
    }
    await client.unlink({ path: `${lower}/lost` });
    {
      await using overlay = await over(guest, client, layers, 'metacopy=on,redirect_dir=on');
      t.is(await client.errno.lstat({ path: overlay.file('lost') }), 'EIO');
      t.is(text(await client.readFile({ path: overlay.file('kept') })), 'kept at the bottom');
    }
    await using overlay = await over(guest, client, layers, 'metacopy=off,redirect_dir=on');
    t.is(await client.errno.lstat({ path: overlay.file('kept') }), 'EPERM', 'without metacopy');
  },
);

guestTest(
  'what a whiteout below has removed needs none in the upper layer, all else does',
  async (t, guest) => {
    await using client = await guest.client();
    const layers = await layersOf(guest, 3);
    const [bottom = '', , upper = ''] = layers;
    await fill(client, bottom, ['removed', 'there']);
    {
      await using overlay = await over(guest, client, layers.slice(0, 2));
      await client.unlink({ path: overlay.file('removed') });
    }
    await using overlay = await over(guest, client, layers);
    for (const name of ['removed', 'there', 'new']) {
      await client.writeFile({ path: overlay.file(name), data: 'above' });
    }
    for (const name of ['removed', 'there', 'new']) await client.unlink({ path: overlay.file(name) });
    t.deepEqual(await client.readdir({ path: upper }), ['there']);
    const { mode, rdevMajor, rdevMinor } = await client.lstat({ path: `${upper}/there` });
    t.deepEqual([mode & 0o170_000, rdevMajor, rdevMinor], [0o020_000, 0, 0], 'a whiteout');
    t.deepEqual(await client.readdir({ path: overlay.path }), []);
  },
);

guestTest(
  'whiteouts of a directory that has none below it any more are not listed, and it can be removed',
  async (t, guest) => {
    await using client = await guest.client();
    const layers = await layersOf(guest, 2);
    const [lower = '', upper = ''] = layers;
    await fill(client, lower, ['d/', 'd/a', 'd/b']);
    {
      await using overlay = await over(guest, client, layers);
      await client.unlink({ path: overlay.file('d/a') });
    }
    for (const name of ['a', 'b']) await client.unlink({ path: `${lower}/d/${name}` });
    await client.rmdir({ path: `${lower}/d` });
    t.deepEqual(await client.readdir({ path: `${upper}/d` }), ['a'], 'a whiteout');
    await using overlay = await over(guest, client, layers);
    t.deepEqual(await client.readdir({ path: overlay.file('d') }), []);
    await client.rmdir({ path: overlay.file('d') });
    t.deepEqual(await client.readdir({ path: upper }), []);
  },
);

guestTest(
  'an index forgets what its layers have not any more when the overlay is mounted anew (E17)',
  async (t, guest) => {
    await using client = await guest.client();
    const layers = await layersOf(guest, 2);
    const [lower = '', upper = ''] = layers;
    const work = await guest.directory('ext4', 'work');
    const names = ['stays', 'orphan', 'stale'];
    await fill(client, lower, names);
    for (const name of names) await client.link({ from: `${lower}/${name}`, to: `${lower}/${name}2` });
    const mount = () => guest.mountOverlay({ lower, upper, work, options: 'index=on' }, client);
    {
      await using overlay = await mount();
      for (const name of names) {
        await client.writeFile({ path: overlay.file(name), data: 'changed', flags: 'O_WRONLY|O_APPEND' });
      }
      await client.unlink({ path: overlay.file('orphan2') });
    }
    /** Without what is only in the making, the whiteout that others are links to for instance. */
    const entries = async () => {
      const found = await client.readdir({ path: `${work}/index` });
      return found.filter((name) => !name.startsWith('#')).length;
    };
    t.is(await entries(), 3, 'one for each file of two names');
    for (const name of ['orphan', 'stale']) await client.unlink({ path: `${upper}/${name}` });
    for (const name of ['stale', 'stale2']) await client.unlink({ path: `${lower}/${name}` });
    await using overlay = await mount();
    t.is(await entries(), 1, 'without the one that has no name left, and the one whose lower file is gone');
    t.is(text(await client.readFile({ path: overlay.file('stays2') })), 'stays at the bottomchanged');
    t.deepEqual(await client.readdir({ path: overlay.path }), ['orphan', 'stays', 'stays2']);
  },
);

guestTest('a merged directory is read in parts, and on from where it was sought to', async (t, guest) => {
  await using client = await guest.client();
  const layers = await layersOf(guest, 2);
  const [lower = '', upper = ''] = layers;
  const names = Array.from({ length: 12 }, (_each, nth) => `name-${nth}`);
  for (const [nth, name] of names.entries()) {
    await client.writeFile({ path: `${nth % 2 === 0 ? lower : upper}/${name}`, data: '' });
  }
  await using overlay = await over(guest, client, layers);
  const fd = await client.open({ path: overlay.path, flags: 'O_RDONLY|O_DIRECTORY' });
  /** Room for two or three names. */
  const some = () => client.readdirFd({ fd, bytes: 80 });
  const parts: { position: number; names: string[] }[] = [];
  for (let done = false; !done;) {
    const position = await client.lseek({ fd, offset: 0, whence: 'SEEK_CUR' });
    const part = await some();
    done = part.length === 0;
    if (!done) parts.push({ position, names: part });
  }
  t.true(parts.length > 4, 'several parts');
  t.deepEqual(parts.flatMap((part) => part.names).sort(), ['.', '..', ...names].sort());
  for (const { position, names: part } of parts.toReversed()) {
    t.is(await client.lseek({ fd, offset: position, whence: 'SEEK_SET' }), position);
    t.deepEqual(await some(), part, `from ${position}`);
  }
  t.is(await client.errno.lseek({ fd, offset: -1, whence: 'SEEK_SET' }), 'EINVAL');
  await client.close({ fd });
});

guestTest('a directory of an overlay has the time of the last change to its names', async (t, guest) => {
  await using client = await guest.client();
  const layers = await layersOf(guest, 2);
  const [lower = ''] = layers;
  await fill(client, lower, ['d/', 'd/below', 'd/other', 'e/', 'e/elsewhere', 'e/moved']);
  await using overlay = await over(guest, client, layers, 'redirect_dir=on');
  const [path, at] = [overlay.file('d'), (name: string): string => overlay.file(`d/${name}`)];
  const changes: Readonly<Record<string, () => Promise<unknown>>> = {
    'a new file': () => client.writeFile({ path: at('above'), data: '' }),
    'a new link': () => client.link({ from: at('above'), to: at('link') }),
    'a new directory': () => client.mkdir({ path: at('dir') }),
    'an upper file removed': () => client.unlink({ path: at('above') }),
    'a lower file removed': () => client.unlink({ path: at('below') }),
    'a name made where one was removed': () => client.mkdir({ path: at('below') }),
    'a directory removed': () => client.rmdir({ path: at('below') }),
    'a file renamed': () => client.rename({ from: at('other'), to: at('renamed') }),
    'a file moved away': () => client.rename({ from: at('renamed'), to: overlay.file('e/came') }),
    'a file moved here': () => client.rename({ from: overlay.file('e/moved'), to: at('moved') }),
  };
  for (const [what, change] of Object.entries(changes)) {
    await client.utimens({ path, atimeNs: LONG_AGO_NS, mtimeNs: LONG_AGO_NS });
    t.is((await client.stat({ path })).mtimeNs, LONG_AGO_NS, `before: ${what}`);
    await change();
    const { mtimeNs, ctimeNs } = await client.stat({ path });
    t.true(mtimeNs > LONG_AGO_NS, what);
    t.is(mtimeNs, ctimeNs, `${what}: both times`);
  }
});

guestTest(
  'whiteouts share an inode, and what was removed does not stay in the work directory',
  async (t, guest) => {
    await using client = await guest.client();
    const lower = await guest.directory('ext4', 'lower');
    const { upper, work } = await upperOn(guest);
    await fill(client, lower, ['a', 'b', 'd/', 'd/x', 'e/']);
    await using overlay = await guest.mountOverlay({ lower, upper, work }, client);
    for (const name of ['a', 'b', 'd/x']) await client.unlink({ path: overlay.file(name) });
    for (const name of ['d', 'e']) await client.rmdir({ path: overlay.file(name) });
    const numbers = new Set<number>();
    for (const name of ['a', 'b', 'd', 'e'])
      numbers.add((await client.lstat({ path: `${upper}/${name}` })).ino);
    t.is(numbers.size, 1, 'one inode');
    const workdir = `${work}/work`;
    const left = await client.readdir({ path: workdir });
    const kinds = new Set<number>();
    for (const name of left) kinds.add((await client.lstat({ path: `${workdir}/${name}` })).mode & 0o170_000);
    t.deepEqual(
      [left.filter((name) => !name.startsWith('#')), [...kinds]],
      [[], [0o020_000]],
      'the whiteout that the others are links to, and nothing else',
    );
  },
);

guestTest('a directory that two lower layers have is merged without an upper layer', async (t, guest) => {
  await using client = await guest.client();
  const [bottom = '', top = ''] = await layersOf(guest, 2);
  await fill(client, bottom, ['d/', 'd/a', 'd/both', 'z']);
  await fill(client, top, ['d/', 'd/b', 'd/both']);
  await using overlay = await guest.mountOverlay({ lower: [top, bottom] }, client);
  t.deepEqual(await client.readdir({ path: overlay.path }), ['d', 'z']);
  t.deepEqual(await client.readdir({ path: overlay.file('d') }), ['a', 'b', 'both']);
});

guestTest(
  'a link of what was copied up has its number, and leaves the time of its directory as it is (E17)',
  async (t, guest) => {
    await using client = await guest.client();
    const layers = await layersOf(guest, 2);
    const [lower = '', upper = ''] = layers;
    await fill(client, lower, ['d/', 'd/a', 'e/']);
    await client.link({ from: `${lower}/d/a`, to: `${lower}/e/b` });
    await using overlay = await over(guest, client, layers, 'index=on');
    for (const name of ['d', 'e']) {
      await client.utimens({ path: overlay.file(name), atimeNs: LONG_AGO_NS, mtimeNs: LONG_AGO_NS });
    }
    for (const name of ['d/a', 'e/b']) {
      await client.chmod({ path: overlay.file(name), mode: 0o600 });
      t.is(await client.errno.lstat({ path: `${upper}/${name}` }), 'ok', `${name} is copied up`);
      const directory = name.slice(0, 1);
      t.is((await client.stat({ path: `${upper}/${directory}` })).mtimeNs, LONG_AGO_NS, directory);
    }
    for (const { path, entry, ino } of await client.tree({ path: overlay.path })) {
      if (entry !== null) t.is(entry.ino, ino, `${path}: the number that its directory lists`);
    }
  },
);
