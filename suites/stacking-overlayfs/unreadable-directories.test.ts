import { guestTest } from '../lib/guest-test.ts';
import { fill } from '../lib/layers.ts';
import { layersOnFuse, lowerOnFuse, upperOnFuse, WORK_DIR } from '../lib/overlay-on-fuse.ts';

/** Directories of a layer whose server does not let an overlay read them, or not all of them. */

const READS = ['READDIR', 'READDIRPLUS'] as const;

guestTest(
  'a merged directory that cannot be read in one layer is an error, is not removed, and is read later',
  async (t, guest) => {
    await using client = await guest.client();
    await using stack = await lowerOnFuse(guest, client);
    const { overlay, fuse } = stack;
    for (const name of ['d', 'empty']) {
      await client.mkdir({ path: fuse.backing(name) });
      await client.writeFile({ path: overlay.file(`${name}/above`), data: '' });
    }
    await fill(client, fuse.root, ['d/below']);
    await client.unlink({ path: overlay.file('empty/above') });
    for (const [opcode, errno] of [
      [['OPENDIR'], 'ENFILE'],
      [READS, 'EUCLEAN'],
    ] as const) {
      const permit = await fuse.fail({ opcode }, errno);
      const open = await client.open({ path: overlay.file('d'), flags: 'O_RDONLY|O_DIRECTORY' });
      t.is(await client.errno.readdirFd({ fd: open }), errno, `${opcode[0]}: read`);
      t.is(await client.errno.rmdir({ path: overlay.file('empty') }), errno, `${opcode[0]}: removed`);
      await permit();
      t.deepEqual(await client.readdirFd({ fd: open }), ['above', 'below'], `${opcode[0]}: later`);
      await client.close({ fd: open });
    }
    t.is(await client.errno.rmdir({ path: overlay.file('empty') }), 'ok', 'removed at last');
  },
);

guestTest('a directory of one layer that its server does not open cannot be opened', async (t, guest) => {
  await using client = await guest.client();
  await using stack = await lowerOnFuse(guest, client);
  const { overlay, fuse } = stack;
  await fill(client, fuse.root, ['d/', 'd/below']);
  const path = overlay.file('d');
  const permit = await fuse.fail('OPENDIR', 'EMFILE');
  t.is(await client.errno.open({ path, flags: 'O_RDONLY|O_DIRECTORY' }), 'EMFILE');
  t.is(await client.errno.stat({ path }), 'ok', 'it is there');
  await permit();
  t.deepEqual(await client.readdir({ path }), ['below']);
});

guestTest(
  'fsync of a directory that was copied up while it was open opens the upper one, once',
  async (t, guest) => {
    await using client = await guest.client();
    await using stack = await upperOnFuse(guest, client);
    const { overlay, fuse, lower } = stack;
    await fill(client, lower, ['d/']);
    const fd = await client.open({ path: overlay.file('d'), flags: 'O_RDONLY|O_DIRECTORY' });
    await client.writeFile({ path: overlay.file('d/above'), data: '' });
    const permit = await fuse.fail('OPENDIR', 'ENFILE');
    t.is(await client.errno.fsync({ fd }), 'ENFILE', 'it cannot be opened');
    await permit();
    for (const [round, expected] of [
      ['the first', ['OPENDIR', 'FSYNCDIR']],
      ['the second', ['FSYNCDIR']],
    ] as const) {
      const after = await fuse.position();
      t.is(await client.errno.fsync({ fd }), 'ok', round);
      t.deepEqual(await fuse.opcodes({ opcode: ['OPENDIR', 'FSYNCDIR'], after }), expected, round);
    }
    await client.close({ fd });
    await fuse.waitFor({ opcode: 'RELEASEDIR', path: '/upper/d' });
  },
);

guestTest(
  'a list of names is an error when what it needs for their numbers cannot be had',
  async (t, guest) => {
    await using client = await guest.client();
    await using layers = await layersOnFuse(guest, client);
    const { fuse } = layers;
    await fill(client, fuse.root, [
      ...['lower/merged/', 'lower/merged/below', 'lower/f', 'upper/merged/'],
      ...['upper/pure/', 'upper/merged/pure/', 'upper/merged/pure/name', 'lower/merged/low', 'upper/plain/'],
    ]);
    {
      await using overlay = await layers.mount();
      await client.chmod({ path: overlay.file('merged/below'), mode: 0o600 });
      // Marked: it has something that comes from below.
      await client.rename({ from: overlay.file('f'), to: overlay.file('pure/f') });
    }
    /** Directory, the request to its server that fails, and the name that a list begins with. */
    const cases = {
      'a copied-up name of a merged directory': ['merged', 'LOOKUP', '/upper/merged/below', 2],
      'a merged directory': ['merged', 'GETATTR', '/upper/merged', 0],
      'the directory above': ['merged/pure', 'GETATTR', '/upper/merged', 0],
      'a copied-up name': ['pure', 'LOOKUP', '/upper/pure/f', 0],
      'the names of a directory that has such ones': ['pure', 'OPENDIR', '/upper/pure', 0],
    } as const;
    const names = { merged: ['below', 'low', 'pure'], 'merged/pure': ['name'], pure: ['f'] } as const;
    for (const [what, [directory, opcode, path, offset]] of Object.entries(cases)) {
      await using overlay = await layers.mount();
      const fd = await client.open({ path: overlay.file(directory), flags: 'O_RDONLY|O_DIRECTORY' });
      const permit = await fuse.fail({ opcode, path }, 'EUCLEAN');
      // An error is told by a call that has no name to give (getdents64(2)).
      await client.lseek({ fd, offset, whence: 'SEEK_SET' });
      t.is(await client.errno.readdirFd({ fd, bytes: 4096 }), 'EUCLEAN', what);
      await client.close({ fd });
      t.is(await client.errno.readdir({ path: overlay.file('plain') }), 'ok', `${what}: another directory`);
      await permit();
      t.deepEqual(
        await client.readdir({ path: overlay.file(directory) }),
        names[directory],
        `${what}: later`,
      );
    }
  },
);

guestTest(
  'a directory is removed whose whiteouts cannot be found any more, and what is left of it with the next mount',
  async (t, guest) => {
    await using client = await guest.client();
    for (const errno of ['EUCLEAN', 'ENOENT']) {
      await using layers = await layersOnFuse(guest, client);
      const { fuse } = layers;
      await fill(client, fuse.backing('lower'), ['d/', 'd/a', 'kept']);
      {
        await using overlay = await layers.mount();
        await client.unlink({ path: overlay.file('d/a') });
        const permits: (() => Promise<void>)[] = [];
        const hold = await fuse.hold('LOOKUP');
        const removed = client.errno.rmdir({ path: overlay.file('d') });
        // First it is looked at whether it is one, then it is to be removed, with the directory by another name.
        for (let found = false; !found;) {
          const request = await hold.arrived();
          found = request.args['name'] === 'a' && request.path !== '/upper/d';
          if (found) {
            permits.push(await fuse.fail({ opcode: 'LOOKUP', path: `${request.path}/a` }, errno));
            await hold.stop();
          }
          await hold.release(request, found ? { do: 'error', errno } : undefined);
        }
        t.is(await removed, 'ok', errno);
        for (const permit of permits) await permit();
        t.deepEqual(await client.readdir({ path: overlay.path }), ['kept'], errno);
        t.is(await client.errno.mkdir({ path: overlay.file('d') }), 'ok', `${errno}: made again`);
      }
      await using overlay = await layers.mount();
      t.deepEqual(await client.readdir({ path: overlay.file('d') }), [], `${errno}: mounted again`);
      t.deepEqual(await client.readdir({ path: fuse.backing(WORK_DIR) }), [], `${errno}: what was left`);
    }
  },
);

guestTest('a merged directory that its upper server does not list is an error', async (t, guest) => {
  await using client = await guest.client();
  await using stack = await upperOnFuse(guest, client);
  const { overlay, fuse, lower } = stack;
  await fill(client, lower, ['d/', 'd/below']);
  await fill(client, overlay.path, ['d/above']);
  for (const [opcode, errno] of [
    [['OPENDIR'], 'ENFILE'],
    [READS, 'EUCLEAN'],
  ] as const) {
    const fd = await client.open({ path: overlay.file('d'), flags: 'O_RDONLY|O_DIRECTORY' });
    const permit = await fuse.fail({ opcode }, errno);
    t.is(await client.errno.readdirFd({ fd }), errno, opcode[0]);
    await permit();
    t.deepEqual(await client.readdirFd({ fd }), ['above', 'below'], `${opcode[0]}: later`);
    await client.close({ fd });
  }
});

guestTest(
  'two that sync a directory which was copied up meanwhile use one open of it, and the other is closed',
  async (t, guest) => {
    await using client = await guest.client();
    await using stack = await upperOnFuse(guest, client);
    const { overlay, fuse, lower } = stack;
    await fill(client, lower, ['d/']);
    const fd = await client.open({ path: overlay.file('d'), flags: 'O_RDONLY|O_DIRECTORY' });
    await client.chmod({ path: overlay.file('d'), mode: 0o700 });
    const after = await fuse.position();
    const hold = await fuse.hold({ opcode: 'OPENDIR', path: '/upper/d' });
    const first = client.errno.fsync({ fd });
    const opens = [await hold.arrived()];
    const second = client.errno.fsync({ fd });
    opens.push(await hold.arrived());
    await hold.stop();
    const syncs = [first, second];
    for (const [nth, open] of opens.entries()) {
      await hold.release(open);
      t.is(await syncs[nth], 'ok');
    }
    const handles = (await fuse.requests({ opcode: 'OPENDIR', after })).map(({ reply }) => reply?.open?.fh);
    t.is(new Set(handles).size, 2);
    const synced = (await fuse.requests({ opcode: 'FSYNCDIR', after })).map(({ args }) => args['fh']);
    t.deepEqual(synced, [handles[0], handles[0]], 'that which was there first');
    const closed = await fuse.waitFor({ opcode: 'RELEASEDIR', path: '/upper/d', after });
    t.is(closed.args['fh'], handles[1], 'the other is not kept');
    await client.close({ fd });
  },
);
