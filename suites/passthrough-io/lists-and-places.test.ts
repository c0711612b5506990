import { bytes, concat } from '../lib/bytes.ts';
import { u32, u64 } from '../lib/entry-answer.ts';
import { OpenFlag } from '../lib/fuse-abi.ts';
import { guestTest } from '../lib/guest-test.ts';

/** How much of a directory is asked for at a time, where lists go on, and when attributes come with the names. */

/** Longer than any test. Seconds. */
const LONG = 100_000;
const PAGE = 4096;
const PLAIN = { dropFlags: ['DO_READDIRPLUS', 'READDIRPLUS_AUTO'] } as const;
/** READDIRPLUS each time, not only where the kernel finds it worth its while. */
const PLUS = { addFlags: ['DO_READDIRPLUS'], dropFlags: ['READDIRPLUS_AUTO'] } as const;
const AUTO = { addFlags: ['DO_READDIRPLUS', 'READDIRPLUS_AUTO'] } as const;
/** What getdents64(2) needs for the two dots, and for one name of a letter but not for two. Bytes. */
const [ROOM_FOR_DOTS, ROOM_FOR_ONE] = [50, 30];

guestTest(
  'the server is asked for a page of a list at a time, whatever room the caller has',
  async (t, guest) => {
    await using client = await guest.client();
    for (const [opcode, init] of [
      ['READDIR', PLAIN],
      ['READDIRPLUS', PLUS],
    ] as const) {
      await using fuse = await guest.mountFuse({ init });
      await client.writeFile({ path: fuse.backing('f'), data: '' });
      for (const room of [ROOM_FOR_DOTS, 4 * PAGE]) {
        const after = await fuse.position();
        const fd = await client.open({ path: fuse.path, flags: 'O_RDONLY|O_DIRECTORY' });
        await client.readdirFd({ fd, bytes: room });
        const [request] = await fuse.requests({ opcode, after });
        t.is(request?.args['size'], PAGE, `${opcode}, a caller with ${room} bytes`);
        await client.close({ fd });
      }
    }
  },
);

/** Where a list goes on is the server’s to say, in 63 bits: behind each of these names. */
const PLACES = { a: 2 ** 40 + 7, b: 2 ** 50 + 9, c: 2 ** 62 } as const;
const REGULAR = 8;

/** `fuse_dirent`: inode number, offset of the next, length of the name, type; padded to eight bytes. */
function dirent(name: string, next: number): Uint8Array {
  const head = concat(u64(1000n), u64(BigInt(next)), u32(name.length), u32(REGULAR));
  return concat(head, bytes(name), new Uint8Array((8 - (name.length % 8)) % 8));
}

guestTest(
  'names that are kept have the places that the server has said, however large these are',
  async (t, guest) => {
    await using fuse = await guest.mountFuse({
      passthrough: 'off',
      init: PLAIN,
      entryValidS: LONG,
      attrValidS: LONG,
    });
    await using client = await guest.client();
    await fuse.answerOpen('OPENDIR', { openFlags: OpenFlag.CACHE_DIR | OpenFlag.KEEP_CACHE });
    const names = Object.keys(PLACES);
    const body = concat(...Object.entries(PLACES).map(([name, next]) => dirent(name, next)));
    await fuse.rule({ match: { opcode: 'READDIR' }, action: { do: 'body', body: new Uint8Array() } });
    await fuse.rule({ match: { opcode: 'READDIR' }, times: 1, action: { do: 'body', body } });
    t.deepEqual(await client.readdir({ path: fuse.path }), names, 'the first list');
    const after = await fuse.position();
    t.deepEqual(await client.readdir({ path: fuse.path }), names, 'the second list');
    t.deepEqual(await fuse.opcodes({ opcode: 'READDIR', after }), [], 'the second list is of what is kept');

    const fd = await client.open({ path: fuse.path, flags: 'O_RDONLY|O_DIRECTORY' });
    const place = () => client.lseek({ fd, offset: 0, whence: 'SEEK_CUR' });
    for (const [name, next] of Object.entries(PLACES)) {
      t.deepEqual(await client.readdirFd({ fd, bytes: ROOM_FOR_ONE }), [name], 'one at a time');
      t.is(await place(), next, `behind ${name}: where the list goes on`);
    }
    await client.lseek({ fd, offset: PLACES.a, whence: 'SEEK_SET' });
    t.deepEqual(await client.readdirFd({ fd, bytes: PAGE }), ['b', 'c'], 'from a place that was sought to');
    t.deepEqual(await fuse.opcodes({ opcode: 'READDIR', after }), [], 'all of what is kept');
    await client.close({ fd });
  },
);

guestTest(
  'attributes of a known name that come with a list count as long as they say, whatever the name does',
  async (t, guest) => {
    await using client = await guest.client();
    for (const [attrValidS, asks] of [
      [0, ['GETATTR']],
      [LONG, []],
    ] as const) {
      await using fuse = await guest.mountFuse({ init: PLUS, entryValidS: LONG, attrValidS });
      await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
      const lstat = () => client.lstat({ path: fuse.file('f') });
      await lstat();
      await client.readdir({ path: fuse.path });
      t.true((await fuse.requests('READDIRPLUS')).length > 0, 'a list with attributes');
      const after = await fuse.position();
      await lstat();
      const asked = await fuse.opcodes({ opcode: ['LOOKUP', 'GETATTR'], path: '/f', after });
      t.deepEqual(asked, asks, `attributes that count ${attrValidS} s, of a name that counts ${LONG} s`);
    }
  },
);

guestTest(
  'that somebody has wanted attributes which came with a list brings them with one more part, not with each',
  async (t, guest) => {
    await using fuse = await guest.mountFuse({ init: AUTO, entryValidS: LONG, attrValidS: LONG });
    await using client = await guest.client();
    for (const name of ['a', 'b', 'c', 'd']) await client.writeFile({ path: fuse.backing(name), data: name });
    const fd = await client.open({ path: fuse.path, flags: 'O_RDONLY|O_DIRECTORY' });
    const part = async (room: number): Promise<[string[], string[]]> => {
      const after = await fuse.position();
      const names = await client.readdirFd({ fd, bytes: room });
      return [names, await fuse.opcodes({ opcode: ['READDIR', 'READDIRPLUS', 'LOOKUP'], after })];
    };
    const wanted = () => client.stat({ path: fuse.file('a') });
    t.deepEqual(await part(ROOM_FOR_DOTS), [['.', '..'], ['READDIRPLUS']], 'the beginning');
    await wanted();
    t.deepEqual(await part(ROOM_FOR_ONE), [['a'], ['READDIRPLUS']], 'those of a were wanted');
    await wanted();
    t.deepEqual(await part(ROOM_FOR_ONE), [['b'], ['READDIRPLUS']], 'they had come anew, and were wanted');
    await wanted();
    t.deepEqual(await part(ROOM_FOR_ONE), [['c'], ['READDIR']], 'they have not come again since');
    await client.close({ fd });
  },
);

guestTest('a directory is listed, not read: a read of it is EISDIR', async (t, guest) => {
  await using fuse = await guest.mountFuse();
  await using client = await guest.client();
  await client.mkdir({ path: fuse.backing('d') });
  for (const path of [fuse.path, fuse.file('d')]) {
    const fd = await client.open({ path, flags: 'O_RDONLY|O_DIRECTORY' });
    t.is(await client.errno.read({ fd, count: 10 }), 'EISDIR', `${path}: read`);
    t.is(await client.errno.pread({ fd, count: 10, offset: 0 }), 'EISDIR', `${path}: pread`);
    await client.close({ fd });
  }
  t.deepEqual(await fuse.dataRequests(), []);
});
