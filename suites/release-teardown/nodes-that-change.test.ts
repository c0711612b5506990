import { guestTest } from '../lib/guest-test.ts';
import { ATTR, ENTRY, entryAnswer, u32 } from '../lib/entry-answer.ts';
import { mountWritebackCache } from '../lib/writeback-cache.ts';

/** Nodes that the kernel gets to know, forgets and is told of again: what it may believe of them. */

const LONG = 100_000;
const [FILE_TYPE, SOCKET, FIFO] = [0o170000, 0o140000, 0o010000];

for (const [what, evicted] of [
  ['when nothing was forgotten meanwhile', false],
  ['when a node was forgotten meanwhile', true],
] as const) {
  guestTest(
    `attributes of a node that is found are${evicted ? '' : ' not'} asked for anew ${what}`,
    async (t, guest) => {
      guest.needs(guest.expected.abi === 'backing-id', 'a look at what was forgotten during a LOOKUP');
      await using fuse = await guest.mountFuse({ entryValidS: LONG, attrValidS: LONG });
      await using client = await guest.client();
      // In another directory: that of the name that is looked up is locked.
      await client.mkdir({ path: fuse.backing('d') });
      for (const name of ['a', 'd/b']) await client.writeFile({ path: fuse.backing(name), data: name });
      await client.stat({ path: fuse.file('d/b') });
      const after = await fuse.position();
      const hold = await fuse.hold({ opcode: 'LOOKUP', path: '/a' });
      const asking = client.stat({ path: fuse.file('a') });
      asking.catch(() => undefined);
      const lookup = await hold.arrived();
      if (evicted) {
        t.is(await fuse.notify({ parent: '/d', name: 'b' }), 'ok');
        await fuse.waitFor({ opcode: 'FORGET', after }, 'arrived');
      }
      await hold.release(lookup);
      await asking;
      const sent = await fuse.opcodes({ opcode: ['LOOKUP', 'GETATTR'], after });
      t.deepEqual(sent, evicted ? ['LOOKUP', 'GETATTR'] : ['LOOKUP']);
      await client.stat({ path: fuse.file('a') });
      t.deepEqual(await fuse.opcodes({ opcode: ['LOOKUP', 'GETATTR'], after }), sent, 'known by now');
    },
  );
}

guestTest(
  'attributes that a list brings of a node are asked for anew where a node was forgotten meanwhile',
  async (t, guest) => {
    guest.needs(guest.expected.abi === 'backing-id', 'a look at what was forgotten during a READDIRPLUS');
    for (const evicted of [false, true]) {
      const init = { dropFlags: ['READDIRPLUS_AUTO'] } as const;
      await using fuse = await guest.mountFuse({ init, entryValidS: LONG, attrValidS: LONG });
      await using client = await guest.client();
      // In another directory: the one that is listed is locked.
      await client.mkdir({ path: fuse.backing('d') });
      for (const name of ['a', 'd/b']) await client.writeFile({ path: fuse.backing(name), data: name });
      await client.stat({ path: fuse.file('d/b') });
      const after = await fuse.position();
      const hold = await fuse.hold('READDIRPLUS');
      const listing = client.readdir({ path: fuse.path });
      listing.catch(() => undefined);
      const request = await hold.arrived();
      if (evicted) {
        t.is(await fuse.notify({ parent: '/d', name: 'b' }), 'ok');
        await fuse.waitFor({ opcode: 'FORGET', after }, 'arrived');
      }
      await hold.stop();
      await hold.release(request);
      t.deepEqual(await listing, ['a', 'd']);
      const listed = await fuse.position();
      await client.stat({ path: fuse.file('a') });
      const sent = await fuse.opcodes({ opcode: ['LOOKUP', 'GETATTR'], after: listed });
      t.deepEqual(sent, evicted ? ['GETATTR'] : [], evicted ? 'forgotten' : 'nothing was forgotten');
    }
  },
);

guestTest(
  'attributes of a node that is found are not asked for anew where what was forgotten meanwhile had been removed',
  async (t, guest) => {
    guest.needs(guest.expected.abi === 'backing-id', 'a look at what was forgotten during a LOOKUP');
    await using fuse = await guest.mountFuse({ entryValidS: LONG, attrValidS: LONG });
    await using client = await guest.client();
    await client.mkdir({ path: fuse.backing('d') });
    for (const name of ['a', 'd/b']) await client.writeFile({ path: fuse.backing(name), data: name });
    await client.stat({ path: fuse.file('d/b') });
    const hold = await fuse.hold({ opcode: 'LOOKUP', path: '/a' });
    const asking = client.stat({ path: fuse.file('a') });
    asking.catch(() => undefined);
    const lookup = await hold.arrived();
    const after = await fuse.position();
    await client.unlink({ path: fuse.file('d/b') });
    await fuse.waitFor({ opcode: 'FORGET', after }, 'arrived');
    await hold.release(lookup);
    await asking;
    const path = '/a';
    t.deepEqual(await fuse.opcodes({ opcode: 'GETATTR', path, after }), [], 'they came with the name');
  },
);

guestTest(
  'of a node that is known attributes that come with another name count, whatever was forgotten meanwhile',
  async (t, guest) => {
    await using fuse = await guest.mountFuse({ entryValidS: LONG, attrValidS: LONG });
    await using client = await guest.client();
    await client.mkdir({ path: fuse.backing('d') });
    for (const name of ['a', 'd/b']) await client.writeFile({ path: fuse.backing(name), data: name });
    await client.link({ from: fuse.backing('a'), to: fuse.backing('a2') });
    const { ino } = await client.stat({ path: fuse.file('a') });
    await client.stat({ path: fuse.file('d/b') });
    t.is(await fuse.notify({ inode: '/a', offset: -1, length: 0 }), 'ok', 'its attributes are old');
    const after = await fuse.position();
    const hold = await fuse.hold({ opcode: 'LOOKUP', path: '/a2' });
    const asking = client.stat({ path: fuse.file('a2') });
    asking.catch(() => undefined);
    const lookup = await hold.arrived();
    t.is(await fuse.notify({ parent: '/d', name: 'b' }), 'ok');
    await fuse.waitFor({ opcode: 'FORGET', after }, 'arrived');
    await hold.release(lookup);
    t.like(await asking, { ino, nlink: 2 }, 'the same node');
    const sent = await fuse.opcodes({ opcode: ['LOOKUP', 'GETATTR'], after });
    t.deepEqual(sent, ['LOOKUP'], 'they came with the name');
  },
);

guestTest('a root that the server says to be a file is EIO until it is unmounted (B24)', async (t, guest) => {
  await using fuse = await guest.mountFuse();
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
  const body = entryAnswer({ nodeid: 1n, entryValidS: 0 });
  body.set(u32(0o100644), ENTRY.attr + ATTR.mode);
  body.set(u32(1), ENTRY.attr + ATTR.nlink);
  const takeBack = await fuse.rule({ match: { opcode: 'LOOKUP', path: '/f' }, action: { do: 'body', body } });
  t.is(await client.errno.stat({ path: fuse.file('f') }), 'EIO', 'the name');
  await takeBack();
  const after = await fuse.position();
  t.is(await client.errno.stat({ path: fuse.path }), 'EIO', 'the root');
  t.is(await client.errno.stat({ path: fuse.file('f') }), 'EIO', 'the name, whose answer would be right now');
  t.is(await client.errno.open({ path: fuse.path, flags: 'O_RDONLY|O_DIRECTORY' }), 'EIO', 'open');
  t.deepEqual(await fuse.opcodes({ after }), [], 'the server is not asked');
  t.is(await fuse.unmount(), 'ok');
});

guestTest('a socket of the server is one, and cannot be opened', async (t, guest) => {
  await using fuse = await guest.mountFuse();
  await using client = await guest.client();
  const path = fuse.file('s');
  await client.mknod({ path, mode: SOCKET + 0o600 });
  for (const [what, at] of Object.entries({ above: path, below: fuse.backing('s') }))
    t.is((await client.stat({ path: at })).mode & FILE_TYPE, SOCKET, what);
  const after = await fuse.position();
  t.is(await client.errno.open({ path, flags: 'O_RDWR' }), 'ENXIO');
  t.deepEqual(await fuse.opcodes({ opcode: 'OPEN', after }), [], 'the server is not asked');
});

guestTest('with the writeback cache the times of a FIFO stay the server’s (B25)', async (t, guest) => {
  await using fuse = await mountWritebackCache(guest, { attrValidS: LONG, entryValidS: LONG });
  await using client = await guest.client();
  const path = fuse.file('fifo');
  await client.mknod({ path, mode: FIFO + 0o600 });
  await client.utimens({ path, atimeNs: 1e9, mtimeNs: 2e9 });
  const before = await client.stat({ path });
  t.is(before.mode & FILE_TYPE, FIFO);
  const after = await fuse.position();
  const fd = await client.open({ path, flags: 'O_RDWR|O_NONBLOCK' });
  t.is(await client.write({ fd, data: 'through it' }), 10);
  t.is((await client.read({ fd, count: 10 })).length, 10);
  const { mtimeNs, ctimeNs } = await client.fstat({ fd, flags: 'AT_STATX_DONT_SYNC' });
  t.deepEqual({ mtimeNs, ctimeNs }, { mtimeNs: 2e9, ctimeNs: before.ctimeNs });
  await client.syncfs({ fd });
  await client.close({ fd });
  t.deepEqual(await fuse.opcodes({ opcode: 'SETATTR', after }), [], 'nor is the server told of others');
});

guestTest(
  'a directory that is known without a name is opened by its handle only with EXPORT_SUPPORT (E17)',
  async (t, guest) => {
    await using client = await guest.client();
    for (const [addFlags, errno, asked] of [
      [[], 'ESTALE', []],
      [['EXPORT_SUPPORT'], 'ok', ['..']],
    ] as const) {
      await using fuse = await guest.mountFuse({ init: { addFlags }, entryValidS: LONG, attrValidS: LONG });
      await client.mkdir({ path: fuse.backing('d') });
      const mountFd = await client.open({ path: fuse.path, flags: 'O_RDONLY|O_DIRECTORY' });
      const handle = await client.nameToHandle({ path: fuse.file('d') });
      // A watch keeps the node, and no name of it.
      const watch = await client.inotify_init({});
      await client.inotify_add_watch({ fd: watch, path: fuse.file('d'), mask: 'IN_MODIFY' });
      t.is(await fuse.notify({ parent: '/', name: 'd' }), 'ok');
      const after = await fuse.position();
      const by = { mountFd, ...handle, flags: 'O_RDONLY|O_DIRECTORY' };
      t.is(await client.errno.openByHandle(by), errno, addFlags.join());
      const names = (await fuse.requests({ opcode: 'LOOKUP', after })).map(({ args }) => args['name']);
      t.deepEqual(names.slice(0, 1), asked, 'what the server is asked for first');
      await fuse.abort();
    }
  },
);

guestTest(
  'a handle of which the server says that there is no such node is ESTALE (E17)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse({ init: { addFlags: ['EXPORT_SUPPORT'] }, entryValidS: LONG });
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
    await fuse.fail({ opcode: ['FORGET', 'BATCH_FORGET'] }, 'ENOENT');
    const mountFd = await client.open({ path: fuse.path, flags: 'O_RDONLY|O_DIRECTORY' });
    const handle = await client.nameToHandle({ path: fuse.file('f') });
    const after = await fuse.position();
    t.is(await fuse.notify({ parent: '/', name: 'f' }), 'ok');
    await fuse.waitFor({ opcode: 'FORGET', after }, 'arrived');
    const body = entryAnswer({ nodeid: 0n, entryValidS: 0 });
    const takeBack = await fuse.rule({ match: { opcode: 'LOOKUP' }, action: { do: 'body', body } });
    t.is(await client.errno.openByHandle({ mountFd, ...handle, flags: 'O_RDONLY' }), 'ESTALE');
    await takeBack();
    t.is(await client.errno.openByHandle({ mountFd, ...handle, flags: 'O_RDONLY' }), 'ok');
    const root = await client.nameToHandle({ path: fuse.path });
    const fd = await client.openByHandle({ mountFd, ...root, flags: 'O_RDONLY|O_DIRECTORY' });
    t.deepEqual(await client.readdirFd({ fd }), ['f'], 'the root by its handle');
    t.is(await client.readlink({ path: `/proc/self/fd/${fd}` }), fuse.path);
    for (const each of [fd, mountFd]) await client.close({ fd: each });
    await fuse.abort();
  },
);
