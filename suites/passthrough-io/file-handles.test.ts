import { text } from '../lib/bytes.ts';
import { SyscallError, type Client, type FileHandle } from '../lib/client.ts';
import { ENTRY, u64 } from '../lib/entry-answer.ts';
import type { FuseMount } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';

/** name_to_handle_at and open_by_handle_at, which is how a file server on top of FUSE names files. */

/** include/linux/exportfs.h: number of the node and generation. */
const INO64_GEN = 0x81;
const HANDLE_BYTES = 12;
/** Longer than any test. Seconds. */
const LONG = 100_000;
const WITH_EXPORT = { init: { addFlags: ['EXPORT_SUPPORT'] } } as const;

/** The two halves of the node's number, the higher first, then the generation. */
function handleOf(nodeid: number, generation = 0): FileHandle {
  const handle = new Uint8Array(HANDLE_BYTES);
  const view = new DataView(handle.buffer);
  view.setUint32(0, Math.floor(nodeid / 2 ** 32), true);
  view.setUint32(4, nodeid % 2 ** 32, true);
  view.setUint32(8, generation, true);
  return { type: INO64_GEN, handle };
}

/** The kernel forgets the node of a name that nothing has open; the server keeps it. */
async function forgotten(fuse: FuseMount, name: string, parent = '/'): Promise<void> {
  const after = await fuse.position();
  if ((await fuse.notify({ parent, name })) !== 'ok') throw new Error(`${name} is not in the cache`);
  await fuse.waitFor({ opcode: ['FORGET', 'BATCH_FORGET'], after }, 'arrived');
}

/** Contents of a file that a handle stands for. */
async function readBy(client: Client, mountFd: number, handle: FileHandle): Promise<string> {
  const fd = await client.openByHandle({ mountFd, ...handle, flags: 'O_RDONLY' });
  const data = await client.pread({ fd, count: 100, offset: 0 });
  await client.close({ fd });
  return text(data);
}

guestTest('a file is opened by its handle in passthrough mode, in memory or not (E17)', async (t, guest) => {
  await using fuse = await guest.mountFuse(WITH_EXPORT);
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
  await client.writeFile({ path: fuse.backing('g'), data: 'of another' });
  await fuse.fail({ opcode: ['FORGET', 'BATCH_FORGET'] }, 'ENOENT');
  const generation = { do: 'patch', at: ENTRY.generation, bytes: u64(7n) } as const;
  await fuse.rule({ match: { opcode: 'LOOKUP' }, action: generation });
  const mountFd = await client.open({ path: fuse.path, flags: 'O_RDONLY|O_DIRECTORY' });
  const f = await client.nameToHandle({ path: fuse.file('f') });
  const g = await client.nameToHandle({ path: fuse.file('g') });
  const nodeid = await fuse.nodeid('/f');
  t.deepEqual(f, handleOf(nodeid, 7));
  t.deepEqual(g, handleOf(await fuse.nodeid('/g'), 7));

  let after = await fuse.position();
  t.is(await readBy(client, mountFd, f), 'contents', 'while the inode is in memory');
  t.deepEqual(await fuse.opcodes({ opcode: 'LOOKUP', after }), [], 'the server is not asked which it is');
  await fuse.waitFor({ opcode: 'RELEASE', after });

  await forgotten(fuse, 'f');
  after = await fuse.position();
  t.is(await readBy(client, mountFd, f), 'contents', 'when it is not');
  const [lookup, ...more] = await fuse.requests({ opcode: 'LOOKUP', after });
  t.like(lookup, { nodeid, args: { name: '.' } }, 'the server is asked for the node itself');
  t.is(more.length, 0);
  t.is(await readBy(client, mountFd, g), 'of another');
  await client.close({ fd: mountFd });
  t.deepEqual(await fuse.dataRequests(), []);
});

guestTest('a directory that is opened by its handle has its place in the tree (E17)', async (t, guest) => {
  await using fuse = await guest.mountFuse(WITH_EXPORT);
  await using client = await guest.client();
  await client.mkdir({ path: fuse.backing('above') });
  await client.mkdir({ path: fuse.backing('above/below') });
  await client.writeFile({ path: fuse.backing('above/below/f'), data: 'contents' });
  await fuse.fail({ opcode: ['FORGET', 'BATCH_FORGET'] }, 'ENOENT');
  const mountFd = await client.open({ path: fuse.path, flags: 'O_RDONLY|O_DIRECTORY' });
  const handle = await client.nameToHandle({ path: fuse.file('above/below') });
  await forgotten(fuse, 'above');

  const after = await fuse.position();
  const fd = await client.openByHandle({ mountFd, ...handle, flags: 'O_RDONLY|O_DIRECTORY' });
  const asked = (await fuse.requests({ opcode: 'LOOKUP', after })).map(({ args }) => args['name']);
  t.is(asked[0], '.', 'the directory itself');
  t.deepEqual(
    asked.filter((name) => name === '..'),
    ['..', '..'],
    'what is above it, up to the root',
  );
  t.is(await client.readlink({ path: `/proc/self/fd/${fd}` }), fuse.file('above/below'));
  t.deepEqual(await client.readdirFd({ fd }), ['f']);
  t.is(text(await client.readFile({ path: `/proc/self/fd/${fd}/f` })), 'contents');
  for (const each of [fd, mountFd]) await client.close({ fd: each });
  t.deepEqual(await fuse.dataRequests(), []);
});

guestTest(
  'a name is looked up again when its node was opened by a handle, or found above one that was (E17)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse({ ...WITH_EXPORT, entryValidS: LONG, attrValidS: LONG });
    await using client = await guest.client();
    for (const name of ['d', 'd/e']) await client.mkdir({ path: fuse.backing(name) });
    await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
    await fuse.fail({ opcode: ['FORGET', 'BATCH_FORGET'] }, 'ENOENT');
    const mountFd = await client.open({ path: fuse.path, flags: 'O_RDONLY|O_DIRECTORY' });
    const [f, e] = [
      await client.nameToHandle({ path: fuse.file('f') }),
      await client.nameToHandle({ path: fuse.file('d/e') }),
    ];
    const asked = async (name: string): Promise<unknown[]> => {
      const after = await fuse.position();
      await client.stat({ path: fuse.file(name) });
      return (await fuse.requests({ opcode: 'LOOKUP', after })).map(({ args }) => args['name']);
    };
    for (const name of ['f', 'd']) t.deepEqual(await asked(name), [], `${name}: its name is believed`);

    t.is(await readBy(client, mountFd, f), 'contents');
    t.deepEqual(await asked('f'), ['f'], 'the file that was opened by its handle');
    await forgotten(fuse, 'e', '/d');
    await client.close({ fd: await client.openByHandle({ mountFd, ...e, flags: 'O_RDONLY|O_DIRECTORY' }) });
    t.deepEqual(await asked('d'), ['d'], 'the directory above the one that was opened by its handle');
    for (const name of ['f', 'd']) t.deepEqual(await asked(name), [], `${name}: believed again`);
    await client.close({ fd: mountFd });
    t.deepEqual(await fuse.dataRequests(), []);
  },
);

guestTest(
  'without EXPORT_SUPPORT a handle is good for as long as the inode is in memory (E17)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse();
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
    await fuse.fail({ opcode: ['FORGET', 'BATCH_FORGET'] }, 'ENOENT');
    const mountFd = await client.open({ path: fuse.path, flags: 'O_RDONLY|O_DIRECTORY' });
    const handle = await client.nameToHandle({ path: fuse.file('f') });
    let after = await fuse.position();
    t.is(await readBy(client, mountFd, handle), 'contents');
    await fuse.waitFor({ opcode: 'RELEASE', after });
    await forgotten(fuse, 'f');
    after = await fuse.position();
    t.is(await client.errno.openByHandle({ mountFd, ...handle, flags: 'O_RDONLY' }), 'ESTALE');
    t.deepEqual(await fuse.opcodes({ opcode: 'LOOKUP', after }), []);
    await client.close({ fd: mountFd });
    t.deepEqual(await fuse.dataRequests(), []);
  },
);

guestTest('for EXPORT_SUPPORT a server has to be of protocol 7.9 or later (B25, E17)', async (t, guest) => {
  await using client = await guest.client();
  for (const [minor, asked] of [
    [8, []],
    [9, ['LOOKUP']],
  ] as const) {
    await using fuse = await guest.mountFuse({ passthrough: 'off', init: { ...WITH_EXPORT.init, minor } });
    const mountFd = await client.open({ path: fuse.path, flags: 'O_RDONLY|O_DIRECTORY' });
    const handle = { mountFd, ...handleOf(12_345), flags: 'O_RDONLY' };
    const after = await fuse.position();
    t.is(await client.errno.openByHandle(handle), 'ESTALE', `7.${minor}: a node that there is not`);
    const sent = await fuse.opcodes({ opcode: 'LOOKUP', after });
    t.deepEqual(sent, [...asked], `7.${minor}: what the server is asked of the node`);
    await client.close({ fd: mountFd });
  }
});

guestTest('a handle of no file, and one that is too short, is ESTALE (E17)', async (t, guest) => {
  await using fuse = await guest.mountFuse(WITH_EXPORT);
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
  await fuse.fail({ opcode: ['FORGET', 'BATCH_FORGET'] }, 'ENOENT');
  const mountFd = await client.open({ path: fuse.path, flags: 'O_RDONLY|O_DIRECTORY' });
  await client.stat({ path: fuse.file('f') });
  const nodeid = await fuse.nodeid('/f');
  const good = handleOf(nodeid);
  const by = async (handle: FileHandle): Promise<string> => {
    try {
      await readBy(client, mountFd, handle);
      return 'ok';
    } catch (error) {
      if (error instanceof SyscallError) return error.errno;
      throw error;
    }
  };

  t.is(await by(handleOf(0)), 'ESTALE', 'no number');
  t.is(await by(handleOf(nodeid, 1)), 'ESTALE', 'another generation');
  t.is(await by(handleOf(nodeid + 2 ** 32)), 'ESTALE', 'another number');
  t.is(await by({ ...good, handle: good.handle.subarray(0, 8) }), 'ESTALE', 'without a generation');
  t.is(await by({ ...good, type: 0x80 }), 'ESTALE', 'of a type that FUSE has not');
  t.is(await by({ ...good, type: INO64_GEN + 1 }), 'ok', 'with a parent, which is not asked for');
  t.is(await client.errno.nameToHandle({ path: fuse.file('f'), room: HANDLE_BYTES - 1 }), 'EOVERFLOW');
  t.is(await client.errno.nameToHandle({ path: fuse.file('f'), room: HANDLE_BYTES }), 'ok');

  await fuse.waitFor('RELEASE');
  await forgotten(fuse, 'f');
  t.is(await by(handleOf(nodeid, 1)), 'ESTALE', 'another generation than the server says');
  for (const errno of ['ENOENT', 'EIO']) {
    const takeBack = await fuse.fail('LOOKUP', errno);
    t.is(await by(handleOf(nodeid + 1)), 'ESTALE', `the server says ${errno}`);
    await takeBack();
  }
  await client.writeFile({ path: fuse.backing('g'), data: 'of another' });
  await client.stat({ path: fuse.file('g') });
  const g = handleOf(await fuse.nodeid('/g'));
  await forgotten(fuse, 'g');
  const other = { do: 'patch', at: ENTRY.nodeid, bytes: u64(BigInt(nodeid)) } as const;
  const takeBack = await fuse.rule({ match: { opcode: 'LOOKUP' }, action: other });
  t.is(await by(g), 'ESTALE', 'the server says that it is another');
  await takeBack();
  t.is(await by(g), 'ok', 'the server says that it is this one');
  t.is(await by(good), 'ok', 'the one that there is');
  await client.close({ fd: mountFd });
});

guestTest('who has too little room for a handle is told how much it takes (E17)', async (t, guest) => {
  await using fuse = await guest.mountFuse();
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
  for (const room of [0, HANDLE_BYTES - 1]) {
    t.is(await client.handleRoom({ path: fuse.file('f'), room }), HANDLE_BYTES, `who has ${room} bytes`);
  }
});

guestTest(
  'a server without memory for a look-up does not make a handle stale: ENOMEM (E17)',
  async (t, guest) => {
    // open_by_handle_at(2): ESTALE says that the file is gone for good, which nobody knows here.
    await using fuse = await guest.mountFuse(WITH_EXPORT);
    await using client = await guest.client();
    for (const name of ['above', 'above/below']) await client.mkdir({ path: fuse.backing(name) });
    await fuse.fail({ opcode: ['FORGET', 'BATCH_FORGET'] }, 'ENOENT');
    const mountFd = await client.open({ path: fuse.path, flags: 'O_RDONLY|O_DIRECTORY' });
    const handle = await client.nameToHandle({ path: fuse.file('above/below') });
    const byHandle = { mountFd, ...handle, flags: 'O_RDONLY|O_DIRECTORY' } as const;
    await forgotten(fuse, 'above');
    for (const [what, nth] of [
      ['the node itself', 1],
      ['the directory above it', 2],
    ] as const) {
      const action = { do: 'error', errno: 'ENOMEM' } as const;
      const takeBack = await fuse.rule({ match: { opcode: 'LOOKUP' }, nth, action });
      t.is(await client.errno.openByHandle(byHandle), 'ENOMEM', what);
      await takeBack();
    }
    t.is(await client.errno.openByHandle(byHandle), 'ok', 'once it has memory');
  },
);

guestTest('with NO_EXPORT_SUPPORT there are no handles but those of fanotify (E17)', async (t, guest) => {
  await using fuse = await guest.mountFuse({ init: { addFlags: ['NO_EXPORT_SUPPORT'] } });
  if (fuse.init?.flagsOffered.includes('NO_EXPORT_SUPPORT') !== true) {
    guest.skip('this kernel does not offer NO_EXPORT_SUPPORT');
  }
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
  const path = fuse.file('f');
  t.is(await client.errno.nameToHandle({ path }), 'EOPNOTSUPP');
  const identity = await client.nameToHandle({ path, flags: 'AT_HANDLE_FID' });
  t.deepEqual(identity, handleOf(await fuse.nodeid('/f')));
  const mountFd = await client.open({ path: fuse.path, flags: 'O_RDONLY|O_DIRECTORY' });
  t.is(await client.errno.openByHandle({ mountFd, ...identity, flags: 'O_RDONLY' }), 'ESTALE');
  await client.close({ fd: mountFd });
});

guestTest(
  'a generation that the server tells of the root above a directory does not count (E17)',
  async (t, guest) => {
    // What a list says of names has another generation.
    const dropFlags = ['DO_READDIRPLUS', 'READDIRPLUS_AUTO'] as const;
    await using fuse = await guest.mountFuse({ init: { ...WITH_EXPORT.init, dropFlags } });
    await using client = await guest.client();
    await client.mkdir({ path: fuse.backing('d') });
    await client.writeFile({ path: fuse.backing('d/f'), data: 'contents' });
    await fuse.fail({ opcode: ['FORGET', 'BATCH_FORGET'] }, 'ENOENT');
    const generation = { do: 'patch', at: ENTRY.generation, bytes: u64(7n) } as const;
    await fuse.rule({ match: { opcode: 'LOOKUP' }, action: generation });
    const mountFd = await client.open({ path: fuse.path, flags: 'O_RDONLY|O_DIRECTORY' });
    const handle = await client.nameToHandle({ path: fuse.file('d') });
    await forgotten(fuse, 'd');
    const after = await fuse.position();
    const fd = await client.openByHandle({ mountFd, ...handle, flags: 'O_RDONLY|O_DIRECTORY' });
    const asked = (await fuse.requests({ opcode: 'LOOKUP', after })).map(({ args }) => args['name']);
    t.true(asked.includes('..'), 'the server is asked for what is above it');
    t.is(await client.readlink({ path: `/proc/${client.pid}/fd/${fd}` }), fuse.file('d'));
    t.is(await client.errno.fstat({ fd: mountFd }), 'ok', 'the root is what it was');
    t.deepEqual(await client.readdir({ path: fuse.path }), ['d']);
    await client.close({ fd });
    await client.close({ fd: mountFd });
  },
);
