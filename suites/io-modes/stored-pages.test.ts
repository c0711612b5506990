import { concat } from '../lib/bytes.ts';
import { u32, u64 } from '../lib/entry-answer.ts';
import { NotifyCode, OpenFlag } from '../lib/fuse-abi.ts';
import { guestTest } from '../lib/guest-test.ts';
import { outHeader } from '../lib/raw-server.ts';

/** Pages that the server puts into the cache (FUSE_NOTIFY_STORE) and has back (FUSE_NOTIFY_RETRIEVE). */

const PAGE = 4096;
const LONG = 100_000;
const CACHED = {
  passthrough: 'off',
  attrValidS: LONG,
  entryValidS: LONG,
  init: { dropFlags: ['AUTO_INVAL_DATA'] },
} as const;

/** A notification as it is written to the device. */
function message(error: number, body: Uint8Array): Uint8Array {
  return concat(outHeader({ unique: 0n, error, bodyBytes: body.length }), body);
}

/** So many pages are given back just before new ones are taken, so that these are most likely of them. */
const GIVEN_BACK = 64;
const FILES = 12;
const LENGTH = 100;

guestTest(
  'behind data that the server stores up to the end of a file the page is zeros',
  async (t, guest) => {
    await using fuse = await guest.mountFuse(CACHED);
    await fuse.answerOpen('OPEN', { openFlags: OpenFlag.KEEP_CACHE });
    await using client = await guest.client();
    await using server = await guest.client();
    const device = await fuse.server.lendDevice(server);
    const names = Array.from({ length: FILES }, (_none, nth) => `short${nth}`);
    await client.writeFile({ path: fuse.backing('long'), data: new Uint8Array(GIVEN_BACK * PAGE) });
    for (const name of names) await client.writeFile({ path: fuse.backing(name), data: 's'.repeat(LENGTH) });
    const fds: number[] = [];
    for (const name of ['long', ...names]) {
      const fd = await client.open({ path: fuse.file(name), flags: 'O_RDONLY' });
      await client.fstat({ fd });
      fds.push(fd);
    }
    const store = (node: bigint, data: Uint8Array): Uint8Array =>
      message(NotifyCode.STORE, concat(u64(node), u64(0n), u32(data.length), u32(0), data));
    const long = BigInt(await fuse.nodeid('/long'));
    const messages = [
      store(long, new Uint8Array(GIVEN_BACK * PAGE).fill(0x6f)),
      message(NotifyCode.INVAL_INODE, concat(u64(long), u64(0n), u64(0n))),
    ];
    for (const name of names) {
      const node = BigInt(await fuse.nodeid(`/${name}`));
      messages.push(store(node, new Uint8Array(LENGTH).fill(0x6e)));
    }
    const after = await fuse.position();
    const written = await server.batch({
      calls: messages.map((data) => ({ call: 'write', args: { fd: device, data } }) as const),
      oneThread: true,
    });
    t.deepEqual(
      written,
      messages.map((data) => ({ value: data.length })),
      'the kernel takes each',
    );
    const expected = new Uint8Array(PAGE);
    expected.fill(0x6e, 0, LENGTH);
    for (const [nth, fd] of fds.slice(1).entries()) {
      const map = await client.mmap({ fd, length: PAGE, prot: 'PROT_READ', flags: 'MAP_SHARED' });
      t.deepEqual(await client.mread({ map, offset: 0, length: PAGE }), expected, `file ${nth}`);
      await client.munmap({ map });
    }
    t.deepEqual(await fuse.opcodes({ opcode: 'READ', after }), [], 'it is what was stored');
    for (const fd of fds) await client.close({ fd });
  },
);

guestTest(
  'data stored within a file leave its attributes as they are, and behind its end have them asked for',
  async (t, guest) => {
    await using fuse = await guest.mountFuse(CACHED);
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 's'.repeat(2 * PAGE) });
    await client.stat({ path: fuse.file('f') });
    for (const [what, offset, length, asked] of [
      ['all of the first page', 0, PAGE, []],
      ['up to the end', PAGE, PAGE, []],
      ['nothing, at the end', 2 * PAGE, 0, []],
      ['a byte more', PAGE, PAGE + 1, ['GETATTR']],
    ] as const) {
      const after = await fuse.position();
      const data = new Uint8Array(length).fill(0x6e);
      t.is(await fuse.notify({ store: '/f', offset, data }), 'ok', what);
      await client.stat({ path: fuse.file('f') });
      t.deepEqual(await fuse.opcodes({ opcode: 'GETATTR', after }), asked, `${what}: what is asked then`);
    }
  },
);

guestTest(
  'what is retrieved comes with the number that it was asked by, and names its file',
  async (t, guest) => {
    await using fuse = await guest.mountFuse(CACHED);
    await using client = await guest.client();
    for (const name of ['one', 'two']) {
      await client.writeFile({ path: fuse.backing(name), data: name.repeat(10) });
      await client.readFile({ path: fuse.file(name) });
    }
    for (const [number, name] of [
      [1234n, 'one'],
      [98_765n, 'two'],
      [1234n, 'two'],
    ] as const) {
      const nodeid = await fuse.nodeid(`/${name}`);
      const after = await fuse.position();
      const body = concat(u64(number), u64(BigInt(nodeid)), u64(0n), u32(PAGE), u32(0));
      t.is(await fuse.notify({ code: 'RETRIEVE', body }), 'ok');
      const reply = await fuse.waitFor({ opcode: 'NOTIFY_REPLY', after }, 'arrived');
      t.is(BigInt(reply.unique), number, `${name}: the number`);
      t.is(reply.nodeid, nodeid, `${name}: the file`);
    }
    t.is(await fuse.waiting(), 0, 'nobody waits for an answer to it');
  },
);

/** Of a name in the root: FUSE_NAME_MAX, which later versions have made PATH_MAX. Bytes. */
const [LONG_NAME, LONGEST_NAME] = [1024, 4095];

guestTest(
  'a name that the server tells of may be 1024 bytes long, or as long as a path',
  async (t, guest) => {
    await using fuse = await guest.mountFuse({ attrValidS: LONG, entryValidS: LONG });
    await using client = await guest.client();
    await client.stat({ path: fuse.path });
    for (const code of ['INVAL_ENTRY', 'DELETE'] as const) {
      const told = (length: number): Promise<string> => {
        const node = code === 'DELETE' ? u64(12_345n) : new Uint8Array();
        const name = new Uint8Array(length + 1).fill(0x6e, 0, length);
        return fuse.notify({ code, body: concat(u64(1n), node, u32(length), u32(0), name) });
      };
      t.is(await told(LONG_NAME - 1), 'ENOENT', `${code}: a name that nobody has`);
      t.is(await told(LONG_NAME), 'ENOENT', `${code}: one of ${LONG_NAME} bytes`);
      t.is(
        await told(LONG_NAME + 1),
        await told(LONGEST_NAME),
        `${code}: one byte more, and the longest path`,
      );
      t.is(await told(LONGEST_NAME + 1), 'ENAMETOOLONG', `${code}: longer than any path`);
    }
  },
);
