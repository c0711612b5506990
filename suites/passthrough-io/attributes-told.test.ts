import { concat } from '../lib/bytes.ts';
import type { BatchCall } from '../lib/client.ts';
import { ATTR, ATTR_OUT, u32, u64 } from '../lib/entry-answer.ts';
import { eventually } from '../lib/eventually.ts';
import { guestTest } from '../lib/guest-test.ts';

/** What stat makes of the attributes that a server has told. */

/** Longer than any test. Seconds. */
const LONG = 100_000;
/** Less than a second, but longer than two calls by one thread. Seconds. */
const MOMENT = 0.9;
/** Whoever is slow once is not so each time. */
const TRIES = 20;
/** Offset in `fuse_attr`: atime, mtime, ctime in seconds, then their nanoseconds (include/uapi/linux/fuse.h). */
const TIMES = 24;

guestTest('names and attributes that count less than a second do so', async (t, guest) => {
  for (const [what, validity] of Object.entries({
    'a name': { entryValidS: MOMENT, attrValidS: LONG },
    attributes: { entryValidS: LONG, attrValidS: MOMENT },
  })) {
    await using fuse = await guest.mountFuse(validity);
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
    const stat: BatchCall = { call: 'stat', args: { path: fuse.file('f') } };
    const asked = await eventually(
      async () => {
        const after = await fuse.position();
        await client.batch({ calls: [stat, stat, stat], oneThread: true });
        return fuse.opcodes({ opcode: ['LOOKUP', 'GETATTR'], after });
      },
      ({ length }) => length < 2,
      TRIES,
    );
    t.true(
      asked.length < 2,
      `${what}: three calls in a row ask for it no more than once, not ${asked.join()}`,
    );
  }
});

guestTest('of the root nothing is believed that its server has not told', async (t, guest) => {
  await using fuse = await guest.mountFuse({ attrValidS: LONG });
  await using client = await guest.client();
  await client.chmod({ path: fuse.root, mode: 0o751 });
  await client.chown({ path: fuse.root, uid: 1001, gid: 1002 });
  const told = async (path: string): Promise<unknown> => {
    const { mode, nlink, uid, gid, mtimeNs } = await client.stat({ path });
    return { mode, nlink, uid, gid, mtimeNs };
  };
  t.deepEqual(await told(fuse.path), await told(fuse.root), 'what the server says');
  t.deepEqual(await fuse.opcodes('GETATTR'), ['GETATTR'], 'it is asked');
  await told(fuse.path);
  t.deepEqual(await fuse.opcodes('GETATTR'), ['GETATTR'], 'and believed then');
});

guestTest('no time that a server tells has a second or more in its nanoseconds', async (t, guest) => {
  await using fuse = await guest.mountFuse({ attrValidS: LONG });
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
  const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDONLY' });
  for (const [said, told] of [
    [999_999_999, 999_999_999],
    [1_000_000_000, 999_999_999],
    [4_294_967_295, 999_999_999],
  ] as const) {
    const seconds = concat(u64(1n), u64(2n), u64(3n));
    const bytes = concat(seconds, u32(said), u32(said), u32(said));
    await fuse.rule({
      match: { opcode: 'GETATTR' },
      action: { do: 'patch', at: ATTR_OUT.attr + TIMES, bytes },
    });
    for (const flags of ['AT_STATX_FORCE_SYNC', 'AT_STATX_DONT_SYNC']) {
      const { atimeNs, mtimeNs, ctimeNs } = await client.fstat({ fd, flags });
      const times = { atimeNs: 1e9 + told, mtimeNs: 2e9 + told, ctimeNs: 3e9 + told };
      t.deepEqual({ atimeNs, mtimeNs, ctimeNs }, times, `${said} ns, ${flags}`);
    }
  }
  await client.close({ fd });
});

guestTest('times before 1970 and of centuries to come are told as the server says them', async (t, guest) => {
  await using fuse = await guest.mountFuse({ attrValidS: LONG });
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
  const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDONLY' });
  for (const said of [-1n, -(2n ** 31n) - 1n, 2n ** 31n, 2n ** 32n + 7n, 2n ** 33n]) {
    const [atime, mtime, ctime] = [said, said + 10n, said + 20n];
    const bytes = concat(...[atime, mtime, ctime].map((time) => u64(BigInt.asUintN(64, time))));
    await fuse.rule({
      match: { opcode: 'GETATTR' },
      action: { do: 'patch', at: ATTR_OUT.attr + TIMES, bytes: concat(bytes, new Uint8Array(12)) },
    });
    for (const flags of ['AT_STATX_FORCE_SYNC', 'AT_STATX_DONT_SYNC']) {
      const { atimeNs, mtimeNs, ctimeNs } = await client.fstat({ fd, flags });
      const told = [atimeNs, mtimeNs, ctimeNs].map((time) => BigInt(time / 1e9));
      t.deepEqual(told, [atime, mtime, ctime], `${said} s, ${flags}`);
    }
  }
  await client.close({ fd });
});

guestTest('the block size that a server has told is told without asking it again', async (t, guest) => {
  await using fuse = await guest.mountFuse({ attrValidS: LONG });
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
  const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDONLY' });
  for (const [said, told] of [
    [65_536, 65_536],
    [512, 512],
    [3000, 2048],
  ] as const) {
    await fuse.rule({
      match: { opcode: 'GETATTR' },
      action: { do: 'patch', at: ATTR_OUT.attr + ATTR.blksize, bytes: u32(said) },
    });
    await client.fstat({ fd, flags: 'AT_STATX_FORCE_SYNC' });
    const after = await fuse.position();
    t.is((await client.fstat({ fd })).blksize, told, `the server has said ${said}`);
    t.deepEqual(await fuse.opcodes({ opcode: 'GETATTR', after }), [], `${said} is known`);
  }
  await client.close({ fd });
});

/** inode(7) */
const [CHARACTER, BLOCK] = [0o020_000, 0o060_000];

guestTest('a device is the one that the server says, by both numbers', async (t, guest) => {
  await using fuse = await guest.mountFuse({ attrValidS: LONG });
  await using client = await guest.client();
  for (const [name, kind, major, minor] of [
    ['null', CHARACTER, 1, 3],
    ['loop', BLOCK, 7, 200],
    ['partition', BLOCK, 259, 0x1_2345],
    ['far', CHARACTER, 0xfff, 0xf_ffff],
    ['none', CHARACTER, 0, 0],
  ] as const) {
    await client.mknod({ path: fuse.backing(name), mode: kind | 0o600, major, minor });
    for (const flags of ['', 'AT_STATX_FORCE_SYNC']) {
      const { mode, rdevMajor, rdevMinor } = await client.stat({ path: fuse.file(name), flags });
      t.deepEqual([mode & 0o170_000, rdevMajor, rdevMinor], [kind, major, minor], `${name} ${flags}`);
    }
  }
});

guestTest(
  'what is kept of a file is what the server has said, of each attribute by itself',
  async (t, guest) => {
    await using fuse = await guest.mountFuse({ passthrough: 'off', attrValidS: LONG });
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
    const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDONLY' });
    const numbers = { ino: 1_234_567, size: 5000, blocks: 24 };
    const kept = { mode: 0o100_641, nlink: 3, uid: 1001, gid: 1002 };
    const times = { atimeNs: 11e9 + 4, mtimeNs: 22e9 + 5, ctimeNs: 33e9 + 6 };
    const seconds = [11n, 22n, 33n];
    // `fuse_attr`: without a device number, and with no flags.
    const attr = concat(
      ...[...Object.values(numbers).map(BigInt), ...seconds].map(u64),
      ...[4, 5, 6, ...Object.values(kept), 0, 2048, 0].map(u32),
    );
    const body = concat(u64(BigInt(LONG)), u64(0n), attr);
    await fuse.rule({ match: { opcode: 'GETATTR' }, action: { do: 'body', body } });
    const told = { ...numbers, ...kept, ...times, blksize: 2048 };
    for (const flags of ['AT_STATX_FORCE_SYNC', 'AT_STATX_DONT_SYNC', '']) {
      t.like(await client.fstat({ fd, flags }), told, flags);
    }
    t.deepEqual(await fuse.opcodes('GETATTR'), ['GETATTR'], 'it is asked once');
    await client.close({ fd });
  },
);
