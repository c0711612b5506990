import { createHash } from 'node:crypto';
import { firstDifference, pattern, text } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import { OpenFlag, type NotifyName } from '../lib/fuse-abi.ts';
import type { FuseMount } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';
import { OUT_HEADER_BYTES } from '../lib/raw-server.ts';

/** What the server tells by itself (FUSE_NOTIFY_*), and what the kernel forgets, keeps or sends for it. */

const PAGE = 4096;
const LONG = 100_000;
/** include/uapi/linux/fuse.h */
const EXPIRE_ONLY = 1 << 0;
/** Longer than a name may be in any version: 1024 bytes, or PATH_MAX later. */
const TOO_LONG = 5000;

async function nodeidOf(fuse: FuseMount, path: string): Promise<bigint> {
  return BigInt(await fuse.nodeid(path));
}

/** A struct of 64-bit and 32-bit members, little endian, and a name with its NUL. */
function body(wide: readonly bigint[], narrow: readonly number[], name?: string): Uint8Array {
  const tail = name === undefined ? '' : `${name}\0`;
  const bytes = new Uint8Array(8 * wide.length + 4 * narrow.length + tail.length);
  const view = new DataView(bytes.buffer);
  for (const [at, value] of wide.entries()) view.setBigUint64(8 * at, value, true);
  for (const [at, value] of narrow.entries()) view.setUint32(8 * wide.length + 4 * at, value, true);
  bytes.set(Buffer.from(tail), bytes.length - tail.length);
  return bytes;
}

/** A file of `pages` pages in the cache of FUSE, of which the server has another version by now. */
async function staleFile(
  guest: TestGuest,
  client: Client,
  pages: number,
): Promise<{ fuse: FuseMount; fd: number }> {
  const init = { dropFlags: ['AUTO_INVAL_DATA'] } as const;
  const fuse = await guest.mountFuse({ passthrough: 'off', attrValidS: LONG, entryValidS: LONG, init });
  await fuse.answerOpen('OPEN', { openFlags: OpenFlag.KEEP_CACHE });
  await client.writeFile({ path: fuse.backing('f'), data: new Uint8Array(pages * PAGE).fill(0x6f) });
  const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
  await client.pread({ fd, count: pages * PAGE, offset: 0 });
  await client.writeFile({
    path: fuse.backing('f'),
    data: new Uint8Array(pages * PAGE).fill(0x6e),
    flags: 'O_WRONLY',
  });
  return { fuse, fd };
}

guestTest(
  'INVAL_INODE forgets the pages of its range and the attributes, and no other pages',
  async (t, guest) => {
    await using client = await guest.client();
    const { fuse, fd } = await staleFile(guest, client, 5);
    await using _fuse = fuse;
    const firstBytes = async (): Promise<string> => {
      const all: string[] = [];
      for (let page = 0; page < 5; page += 1)
        all.push(text(await client.pread({ fd, count: 1, offset: page * PAGE })));
      return all.join('');
    };
    t.is(await firstBytes(), 'ooooo', 'all in the cache');
    await client.fstat({ fd });
    const before = await fuse.position();
    await client.fstat({ fd });
    t.deepEqual(await fuse.opcodes({ opcode: 'GETATTR', after: before }), [], 'attributes that count');
    t.is(await fuse.notify({ inode: '/f', offset: PAGE + 1, length: 2 * PAGE }), 'ok');
    await client.fstat({ fd });
    t.deepEqual(await fuse.opcodes({ opcode: 'GETATTR', after: before }), ['GETATTR'], 'asked for again');
    t.is(await firstBytes(), 'onnno', 'the pages that the range touches');

    await client.fstat({ fd });
    const after = await fuse.position();
    t.is(await fuse.notify({ inode: '/f', offset: -1, length: 0 }), 'ok');
    await client.fstat({ fd });
    t.deepEqual(
      await fuse.opcodes({ opcode: 'GETATTR', after }),
      ['GETATTR'],
      'a negative offset: attributes',
    );
    t.is(await firstBytes(), 'onnno', 'and no pages');
    t.is(await fuse.notify({ inode: '/f', offset: 4 * PAGE, length: 0 }), 'ok');
    t.is(await firstBytes(), 'onnnn', 'no length: up to the end');
    t.is(
      await fuse.notify({ code: 'INVAL_INODE', body: body([12_345n, 0n, 0n], []) }),
      'ENOENT',
      'no such inode',
    );
    await client.close({ fd });
  },
);

guestTest(
  'STORE puts data into the cache and grows the file, RETRIEVE sends what is there',
  async (t, guest) => {
    await using client = await guest.client();
    const { fuse, fd } = await staleFile(guest, client, 1);
    await using _fuse = fuse;
    const stored = pattern(PAGE + 100);
    t.is(await fuse.notify({ store: '/f', offset: PAGE, data: stored }), 'ok');
    t.is((await client.fstat({ fd, flags: 'AT_STATX_DONT_SYNC' })).size, 2 * PAGE + 100, 'the size');
    const before = await fuse.position();
    const nodeid = await nodeidOf(fuse, '/f');
    const retrieve = (offset: number, size: number): Promise<string> =>
      fuse.notify({ code: 'RETRIEVE', body: body([7n, nodeid, BigInt(offset)], [size, 0]) });
    t.is(await retrieve(PAGE + 50, 300), 'ok');
    const reply = await fuse.waitFor({ opcode: 'NOTIFY_REPLY', after: before }, 'arrived');
    t.like(reply.args, { offset: PAGE + 50, size: 300 }, 'from the middle');
    const after = await fuse.position();
    t.is(await retrieve(2 * PAGE, PAGE), 'ok');
    const last = await fuse.waitFor({ opcode: 'NOTIFY_REPLY', after }, 'arrived');
    t.like(last.args, { offset: 2 * PAGE, size: 100 }, 'no more than the file has');
    const both = await fuse.position();
    t.is(await retrieve(PAGE + 50, PAGE), 'ok');
    const over = await fuse.waitFor({ opcode: 'NOTIFY_REPLY', after: both }, 'arrived');
    const sha1 = createHash('sha1')
      .update(stored.subarray(50, PAGE + 50))
      .digest('hex');
    t.like(over.args, { offset: PAGE + 50, size: PAGE, sha1 }, 'from two pages');
    t.deepEqual(await client.pread({ fd, count: PAGE, offset: PAGE }), stored.subarray(0, PAGE), 'read back');
    t.deepEqual(await fuse.opcodes({ opcode: 'READ', after: before }), [], 'from the cache');
    await client.close({ fd });
  },
);

guestTest(
  'STORE from the middle of a page puts each byte to its place, over several pages',
  async (t, guest) => {
    await using client = await guest.client();
    const { fuse, fd } = await staleFile(guest, client, 3);
    await using _fuse = fuse;
    const data = pattern(PAGE + 500);
    t.is(await fuse.notify({ store: '/f', offset: 100, data }), 'ok');
    const read = await client.pread({ fd, count: data.length, offset: 100 });
    t.is(firstDifference(read, data), undefined);
    await client.close({ fd });
  },
);

guestTest(
  'RETRIEVE sends what is in the cache, up to max_write, and asks for files alone',
  async (t, guest) => {
    await using fuse = await guest.mountFuse({
      passthrough: 'off',
      init: { maxWrite: PAGE, dropFlags: ['AUTO_INVAL_DATA'] },
      entryValidS: 1000,
    });
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: pattern(8 * PAGE) });
    await client.mkdir({ path: fuse.backing('d') });
    const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDONLY' });
    await client.posix_fadvise({ fd, offset: 0, length: 0, advice: 'POSIX_FADV_RANDOM' });
    await client.pread({ fd, count: 2 * PAGE, offset: 0 });
    await client.stat({ path: fuse.file('d') });
    const retrieve = async (path: string, offset: number, size: number): Promise<string> => {
      const nodeid = await nodeidOf(fuse, path);
      return fuse.notify({ code: 'RETRIEVE', body: body([7n, nodeid, BigInt(offset)], [size, 0]) });
    };
    const sizeOf = async (offset: number, size: number): Promise<unknown> => {
      const after = await fuse.position();
      t.is(await retrieve('/f', offset, size), 'ok');
      return (await fuse.waitFor({ opcode: 'NOTIFY_REPLY', after }, 'arrived')).args['size'];
    };
    t.is(await sizeOf(0, 2 * PAGE), PAGE, 'no more than max_write');
    t.is(await sizeOf(100, PAGE), PAGE, 'from two pages');
    t.is(await sizeOf(2 * PAGE - 10, PAGE), 10, 'no further than the cache has it');
    t.is(await sizeOf(6 * PAGE, PAGE), 0, 'nothing');
    t.is(await retrieve('/d', 0, PAGE), 'EINVAL', 'a directory');
    await client.close({ fd });
  },
);

guestTest('INVAL_ENTRY forgets a name, or only how long it counts', async (t, guest) => {
  await using fuse = await guest.mountFuse({ attrValidS: LONG, entryValidS: LONG });
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
  const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDONLY' });
  const lookups = async (): Promise<string[]> => {
    const after = await fuse.position();
    await client.stat({ path: fuse.file('f') });
    return fuse.opcodes({ opcode: 'LOOKUP', after });
  };
  const entry = (name: string, flags: number): Promise<string> =>
    fuse.notify({ code: 'INVAL_ENTRY', body: body([1n], [name.length, flags], name) });
  /** The kernel says of a file whose name it has dropped that it is deleted. */
  const named = (): Promise<string> => client.readlink({ path: `/proc/${client.pid}/fd/${fd}` });
  /** Whether the directory is believed to be as it was. */
  const attributes = async (): Promise<string[]> => {
    const after = await fuse.position();
    await client.stat({ path: fuse.path });
    return fuse.opcodes({ opcode: 'GETATTR', after });
  };
  await attributes();
  t.deepEqual(await lookups(), [], 'known');
  t.is(await entry('never-seen', 0), 'ENOENT', 'a name that is not known');
  t.deepEqual(await attributes(), [], 'not known: the directory is as it was');
  t.is(await entry('f', EXPIRE_ONLY), 'ok');
  t.deepEqual(await attributes(), ['GETATTR'], 'expired: the directory is another');
  t.is(await named(), fuse.file('f'), 'expired: the name stays');
  t.deepEqual(await lookups(), ['LOOKUP'], 'but is asked for');
  t.is(await entry('f', 0), 'ok');
  t.is(await named(), `${fuse.file('f')} (deleted)`, 'forgotten');
  t.deepEqual(await lookups(), ['LOOKUP'], 'and asked for');
  t.deepEqual(await attributes(), ['GETATTR'], 'forgotten: the directory is another');
  t.is(await entry('x'.repeat(TOO_LONG), 0), 'ENAMETOOLONG');
  t.is(
    await fuse.notify({ code: 'INVAL_ENTRY', body: body([1n], [1, 0], 'two') }),
    'EINVAL',
    'a wrong length',
  );
  t.is(text(await client.pread({ fd, count: 8, offset: 0 })), 'contents', 'what is open stays open');
  await client.close({ fd });
});

guestTest('DELETE takes a name away, but only from the inode that it says', async (t, guest) => {
  await using fuse = await guest.mountFuse({ attrValidS: LONG, entryValidS: LONG });
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
  const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDONLY' });
  const child = await nodeidOf(fuse, '/f');
  const remove = (nodeid: bigint): Promise<string> =>
    fuse.notify({ code: 'DELETE', body: body([1n, nodeid], [1, 0], 'f') });
  t.is(await remove(child + 1n), 'ENOENT', 'another inode');
  t.is((await client.fstat({ fd, flags: 'AT_STATX_DONT_SYNC' })).nlink, 1, 'it still has its name');
  await client.stat({ path: fuse.file('f') });
  t.is(await remove(child), 'ok');
  t.is((await client.fstat({ fd, flags: 'AT_STATX_DONT_SYNC' })).nlink, 0, 'no name');
  const after = await fuse.position();
  t.is((await client.stat({ path: fuse.file('f') })).size, 8, 'the server has the name, and is asked');
  t.deepEqual(await fuse.opcodes({ opcode: 'LOOKUP', after }), ['LOOKUP']);
  t.is(text(await client.pread({ fd, count: 8, offset: 0 })), 'contents', 'what is open stays open');
  await client.close({ fd });
});

interface Nodes {
  readonly file: bigint;
  readonly directory: bigint;
}

/** A node that no kernel has been told of. */
const UNKNOWN = 12_345n;

/** What the kernel does not take, with its errno: sizes first, then what it is about. */
const REFUSED: readonly (readonly [NotifyName, string, (nodes: Nodes) => Uint8Array, string])[] = [
  ['POLL', 'a byte too few', () => new Uint8Array(7), 'EINVAL'],
  ['POLL', 'a byte too many', () => new Uint8Array(9), 'EINVAL'],
  ['INVAL_INODE', 'a byte too few', () => new Uint8Array(23), 'EINVAL'],
  ['INVAL_INODE', 'a byte too many', () => new Uint8Array(25), 'EINVAL'],
  ['INVAL_ENTRY', 'no more than the parent', () => body([1n], []), 'EINVAL'],
  ['INVAL_ENTRY', 'a name that is longer than it says', () => body([1n], [1, 0], 'ff'), 'EINVAL'],
  ['INVAL_ENTRY', 'a name that is too long', () => body([1n], [TOO_LONG, 0], 'f'), 'ENAMETOOLONG'],
  ['INVAL_ENTRY', 'an unknown parent', () => body([UNKNOWN], [1, 0], 'f'), 'ENOENT'],
  ['INVAL_ENTRY', 'a parent that is no directory', ({ file }) => body([file], [1, 0], 'f'), 'ENOTDIR'],
  ['DELETE', 'no more than the parent', () => body([1n], []), 'EINVAL'],
  ['DELETE', 'a name that is longer than it says', ({ file }) => body([1n, file], [1, 0], 'ff'), 'EINVAL'],
  ['DELETE', 'a name that is too long', ({ file }) => body([1n, file], [TOO_LONG, 0], 'f'), 'ENAMETOOLONG'],
  ['DELETE', 'an unknown parent', ({ file }) => body([UNKNOWN, file], [1, 0], 'f'), 'ENOENT'],
  ['DELETE', 'a parent that is no directory', ({ file }) => body([file, file], [1, 0], 'f'), 'ENOTDIR'],
  ['STORE', 'no more than the node', ({ file }) => body([file], []), 'EINVAL'],
  ['STORE', 'more data than it says', ({ file }) => body([file, 0n], [3, 0], 'abc'), 'EINVAL'],
  ['STORE', 'fewer data than it says', ({ file }) => body([file, 0n], [5, 0], 'abc'), 'EINVAL'],
  ['STORE', 'an unknown node', () => body([UNKNOWN, 0n], [4, 0], 'abc'), 'ENOENT'],
  ['STORE', 'a directory', ({ directory }) => body([directory, 0n], [4, 0], 'abc'), 'EINVAL'],
  ['RETRIEVE', 'a byte too few', () => new Uint8Array(31), 'EINVAL'],
  ['RETRIEVE', 'a byte too many', () => new Uint8Array(33), 'EINVAL'],
  ['RETRIEVE', 'an unknown node', () => body([7n, UNKNOWN, 0n], [10, 0]), 'ENOENT'],
];

guestTest(
  'a notification of a wrong size, of an unknown code or about something else is refused',
  async (t, guest) => {
    await using fuse = await guest.mountFuse({ passthrough: 'off', entryValidS: LONG, attrValidS: LONG });
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
    await client.mkdir({ path: fuse.backing('d') });
    for (const name of ['f', 'd']) await client.stat({ path: fuse.file(name) });
    const nodes = { file: await nodeidOf(fuse, '/f'), directory: await nodeidOf(fuse, '/d') };
    for (const [code, what, of, errno] of REFUSED) {
      t.is(await fuse.notify({ code, body: of(nodes) }), errno, `${code} with ${what}`);
    }
    for (const code of [0, 99]) {
      const header = new Uint8Array(OUT_HEADER_BYTES);
      new DataView(header.buffer).setUint32(0, OUT_HEADER_BYTES, true);
      new DataView(header.buffer).setInt32(4, code, true);
      t.is(await fuse.server.writeDevice(header), 'EINVAL', `code ${code}`);
    }
    t.is(text(await client.readFile({ path: fuse.file('f') })), 'contents', 'the mount works on');
  },
);

guestTest(
  'STORE of a part of a page that is not in the cache leaves the page to the server',
  async (t, guest) => {
    const init = { dropFlags: ['AUTO_INVAL_DATA'] } as const;
    await using fuse = await guest.mountFuse({
      passthrough: 'off',
      attrValidS: LONG,
      entryValidS: LONG,
      init,
    });
    await fuse.answerOpen('OPEN', { openFlags: OpenFlag.KEEP_CACHE });
    await using client = await guest.client();
    const rows = [
      {
        what: 'from the middle to the end of the file',
        size: PAGE,
        offset: 100,
        length: PAGE - 100,
        asks: true,
      },
      {
        what: 'from its beginning, not to the end of the file',
        size: PAGE,
        offset: 0,
        length: 100,
        asks: true,
      },
      { what: 'from its beginning to the end of the file', size: 100, offset: 0, length: 100, asks: false },
      { what: 'all of it', size: 2 * PAGE, offset: 0, length: PAGE, asks: false },
    ] as const;
    for (const [at, { what, size, offset, length, asks }] of rows.entries()) {
      await client.writeFile({ path: fuse.backing(`f${at}`), data: 's'.repeat(size) });
      const fd = await client.open({ path: fuse.file(`f${at}`), flags: 'O_RDONLY' });
      await client.fstat({ fd });
      const after = await fuse.position();
      const data = new Uint8Array(length).fill(0x6e);
      t.is(await fuse.notify({ store: `/f${at}`, offset, data }), 'ok');
      const seen = text(await client.pread({ fd, count: Math.min(size, PAGE), offset: 0 }));
      t.is(seen, (asks ? 's' : 'n').repeat(Math.min(size, PAGE)), `${what}: what is read`);
      t.is((await fuse.opcodes({ opcode: 'READ', after })).length > 0, asks, `${what}: the server is asked`);
      await client.close({ fd });
    }
  },
);

guestTest('DELETE takes an empty directory away, and not one of which a file is in use', async (t, guest) => {
  await using fuse = await guest.mountFuse({ attrValidS: LONG, entryValidS: LONG });
  await using client = await guest.client();
  await client.mkdir({ path: fuse.backing('d') });
  await client.writeFile({ path: fuse.backing('d/f'), data: 'contents' });
  const directory = await client.open({ path: fuse.file('d'), flags: 'O_RDONLY|O_DIRECTORY' });
  const fd = await client.open({ path: fuse.file('d/f'), flags: 'O_RDONLY' });
  const child = await nodeidOf(fuse, '/d');
  const remove = (): Promise<string> => fuse.notify({ code: 'DELETE', body: body([1n, child], [1, 0], 'd') });
  const links = async (): Promise<number> =>
    (await client.fstat({ fd: directory, flags: 'AT_STATX_DONT_SYNC' })).nlink;
  t.is(await remove(), 'ENOTEMPTY', 'a file of it is open');
  t.true((await links()) > 0, 'it still has its name');
  t.is(text(await client.readFile({ path: fuse.file('d/f') })), 'contents');
  await client.close({ fd });
  t.is(await remove(), 'ok', 'nothing of it is in use');
  t.is(await links(), 0, 'no name');
  const after = await fuse.position();
  const create = { dirfd: directory, path: 'new', flags: 'O_WRONLY|O_CREAT' };
  t.is(await client.errno.open(create), 'ENOENT', 'nothing can be made in a directory that is gone');
  t.deepEqual(await fuse.opcodes({ opcode: ['LOOKUP', 'CREATE'], after }), [], 'and the server is not asked');
  await client.close({ fd: directory });
});
