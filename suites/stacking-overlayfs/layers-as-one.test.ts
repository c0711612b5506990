import { text } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';
import { upperOn } from '../lib/stack.ts';

/** What names do on an overlay that a FUSE server serves: the layers look like one tree. */

async function twoLayers(guest: TestGuest, client: Client) {
  await using undo = new AsyncDisposableStack();
  const lower = await guest.directory('ext4', 'lower');
  const layers = await upperOn(guest);
  const { upper } = layers;
  for (const path of [lower, upper]) {
    await client.mkdir({ path: `${path}/d` });
    await client.writeFile({ path: `${path}/d/both`, data: path === upper ? 'upper' : 'lower' });
  }
  await client.writeFile({ path: `${lower}/d/below`, data: 'below' });
  await client.writeFile({ path: `${upper}/d/above`, data: 'above' });
  const overlay = undo.use(await guest.mountOverlay({ lower, ...layers }, client));
  const fuse = undo.use(await guest.mountFuse({ root: overlay.path, init: { maxStackDepth: 2 } }));
  const all = undo.move();
  return { fuse, overlay, lower, upper, [Symbol.asyncDispose]: () => all.disposeAsync() };
}

guestTest('a name that both layers have is listed once, and the upper file counts', async (t, guest) => {
  await using client = await guest.client();
  await using stack = await twoLayers(guest, client);
  for (const top of [stack.overlay, stack.fuse]) {
    t.deepEqual(await client.readdir({ path: top.file('d') }), ['above', 'below', 'both']);
    t.is(text(await client.readFile({ path: top.file('d/both') })), 'upper');
  }
});

guestTest('a file removed through FUSE is gone, and whiteouts are not listed', async (t, guest) => {
  await using client = await guest.client();
  await using stack = await twoLayers(guest, client);
  for (const name of ['both', 'below']) {
    await client.unlink({ path: stack.fuse.file(`d/${name}`) });
    t.is(await client.errno.stat({ path: stack.fuse.file(`d/${name}`) }), 'ENOENT', `${name} on FUSE`);
    t.is(
      await client.errno.stat({ path: stack.overlay.file(`d/${name}`) }),
      'ENOENT',
      `${name} on the overlay`,
    );
    const whiteout = await client.lstat({ path: `${stack.upper}/d/${name}` });
    const { mode, rdevMajor, rdevMinor } = whiteout;
    const kind = [mode & 0o170_000, rdevMajor, rdevMinor];
    t.deepEqual(kind, [0o020_000, 0, 0], `${name} is a whiteout in the upper layer`);
    t.is(
      text(await client.readFile({ path: `${stack.lower}/d/${name}` })),
      name === 'both' ? 'lower' : 'below',
    );
  }
  t.deepEqual(await client.readdir({ path: stack.fuse.file('d') }), ['above'], 'what is listed');
});

guestTest('a file renamed through FUSE leaves no file of its old name', async (t, guest) => {
  await using client = await guest.client();
  await using stack = await twoLayers(guest, client);
  await client.rename({ from: stack.fuse.file('d/below'), to: stack.fuse.file('d/moved') });
  t.is(await client.errno.stat({ path: stack.overlay.file('d/below') }), 'ENOENT', 'the old name');
  t.is(text(await client.readFile({ path: stack.overlay.file('d/moved') })), 'below', 'the new name');
  t.deepEqual(await client.readdir({ path: stack.fuse.file('d') }), ['above', 'both', 'moved']);
});

guestTest('a directory made where a lower one was removed is empty', async (t, guest) => {
  await using client = await guest.client();
  await using stack = await twoLayers(guest, client);
  t.is(await client.errno.rmdir({ path: stack.fuse.file('d') }), 'ENOTEMPTY', 'while it has files');
  for (const name of ['above', 'below', 'both']) await client.unlink({ path: stack.fuse.file(`d/${name}`) });
  await client.rmdir({ path: stack.fuse.file('d') });
  await client.mkdir({ path: stack.fuse.file('d') });
  t.deepEqual(await client.readdir({ path: stack.overlay.file('d') }), [], 'on the overlay');
  t.deepEqual(await client.readdir({ path: stack.fuse.file('d') }), [], 'on FUSE');
  const opaque = await client.getxattr({ path: `${stack.upper}/d`, name: 'trusted.overlay.opaque' });
  t.is(text(opaque), 'y', 'opaque in the upper layer');
  t.is(
    await client.errno.stat({ path: stack.overlay.file('d/below') }),
    'ENOENT',
    'what is below stays hidden',
  );
});

guestTest('a directory of the lower layer cannot be renamed: EXDEV', async (t, guest) => {
  await using client = await guest.client();
  await using stack = await twoLayers(guest, client);
  await client.mkdir({ path: stack.overlay.file('new') });
  const rename = (from: string) =>
    client.errno.rename({ from: stack.overlay.file(from), to: stack.overlay.file(`${from}-moved`) });
  t.is(await rename('d'), 'EXDEV', 'a directory that both layers have');
  t.is(await rename('new'), 'ok', 'a directory of the upper layer');
  const exchange = (from: string, to: string) =>
    client.errno.rename({
      from: stack.overlay.file(from),
      to: stack.overlay.file(to),
      flags: 'RENAME_EXCHANGE',
    });
  t.is(await exchange('new-moved', 'd'), 'EXDEV', 'nor can one take the place of another one');
  t.is(await exchange('d', 'new-moved'), 'EXDEV', 'either way');
});

guestTest('a new file on an overlay belongs to who made it', async (t, guest) => {
  await using client = await guest.client();
  await using stack = await twoLayers(guest, client);
  await client.chmod({ path: stack.overlay.path, mode: 0o777 });
  await using maker = await guest.client();
  await maker.setCredentials({ uid: 1500, gid: 1600 });
  await maker.writeFile({ path: stack.overlay.file('made'), data: 'mine' });
  for (const path of [stack.overlay.file('made'), `${stack.upper}/made`]) {
    const { uid, gid } = await client.stat({ path });
    t.deepEqual({ uid, gid }, { uid: 1500, gid: 1600 }, path.endsWith('upper/made') ? 'upper' : 'overlay');
  }
});

guestTest(
  'what is made on an overlay has the mode and the device number that are asked for',
  async (t, guest) => {
    await using client = await guest.client();
    await using stack = await twoLayers(guest, client);
    await client.umask({ mask: 0 });
    const at = (name: string): string => stack.overlay.file(`d/${name}`);
    await client.mkdir({ path: at('directory'), mode: 0o1777 });
    await client.mknod({ path: at('character'), mode: 0o020_620, major: 1, minor: 3 });
    await client.mknod({ path: at('block'), mode: 0o060_660, major: 7, minor: 200 });
    // More than the eight bits that minor numbers once had.
    await client.mknod({ path: at('many'), mode: 0o060_660, major: 259, minor: 0x345 });
    await client.mknod({ path: at('many-characters'), mode: 0o020_660, major: 0, minor: 0x100 });
    await client.mknod({ path: at('fifo'), mode: 0o010_640 });
    await client.mknod({ path: at('socket'), mode: 0o140_755 });
    await client.mknod({ path: at('file'), mode: 0o106_751 });
    const fd = await client.open({ path: at('opened'), flags: 'O_RDWR|O_CREAT', mode: 0o7751 });
    await client.close({ fd });
    const made: Readonly<Record<string, readonly [string, number, number]>> = {
      directory: ['41777', 0, 0],
      character: ['20620', 1, 3],
      block: ['60660', 7, 200],
      many: ['60660', 259, 0x345],
      'many-characters': ['20660', 0, 0x100],
      fifo: ['10640', 0, 0],
      socket: ['140755', 0, 0],
      file: ['106751', 0, 0],
      opened: ['107751', 0, 0],
    };
    for (const [name, expected] of Object.entries(made)) {
      for (const path of [at(name), `${stack.upper}/d/${name}`]) {
        const { mode, rdevMajor, rdevMinor } = await client.lstat({ path });
        t.deepEqual([mode.toString(8), rdevMajor, rdevMinor], expected, path);
      }
    }
  },
);
