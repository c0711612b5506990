import type { Client, Stat } from '../lib/client.ts';
import type { FuseMount } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';

/** FUSE_STATX, which the kernel sends when somebody wants to know when a file was made (statx(2)). */

const BASIC_STATS = 0x7ff;
const TYPE = 1;
const SIZE = 0x200;
const BTIME = 0x800;
const REGULAR = 0o100644;
const DIRECTORY = 0o040755;

interface Told {
  readonly mask: number;
  readonly validS?: number;
  readonly mode?: number;
  readonly size?: bigint;
  /** Nanoseconds of the time of birth, if not its own. */
  readonly nanoseconds?: number;
  readonly times?: typeof TIMES;
}

const NUMBERS = { ino: 77, nlink: 3, uid: 1001, gid: 1002, blksize: 8192, blocks: 24 };
const TIMES = { atimeNs: 1000e9 + 1, btimeNs: 2000e9 + 2, ctimeNs: 3000e9 + 3, mtimeNs: 4000e9 + 4 };

/** `fuse_statx_out` with a `fuse_statx` (include/uapi/linux/fuse.h). */
function statxAnswer(told: Told): Uint8Array {
  const { mask, validS = 0, mode = REGULAR, size = 5n, nanoseconds, times = TIMES } = told;
  const view = new DataView(new ArrayBuffer(288));
  view.setBigUint64(0, BigInt(validS), true);
  const at = 32;
  view.setUint32(at, mask, true);
  view.setUint32(at + 4, NUMBERS.blksize, true);
  view.setUint32(at + 16, NUMBERS.nlink, true);
  view.setUint32(at + 20, NUMBERS.uid, true);
  view.setUint32(at + 24, NUMBERS.gid, true);
  view.setUint16(at + 28, mode, true);
  view.setBigUint64(at + 32, BigInt(NUMBERS.ino), true);
  view.setBigUint64(at + 40, size, true);
  view.setBigUint64(at + 48, BigInt(NUMBERS.blocks), true);
  for (const [nth, time] of Object.values(times).entries()) {
    view.setBigInt64(at + 64 + 16 * nth, BigInt(Math.floor(time / 1e9)), true);
    view.setUint32(at + 72 + 16 * nth, time % 1e9, true);
  }
  if (nanoseconds !== undefined) view.setUint32(at + 88, nanoseconds, true);
  return new Uint8Array(view.buffer);
}

/** What the filesystem has told; the kernel adds what it knows of mounts. */
async function told(client: Client, path: string, flags = ''): Promise<Stat> {
  const stat = await client.stat({ path, btime: true, flags });
  return { ...stat, mask: stat.mask & (BASIC_STATS | BTIME) };
}

function answer(fuse: FuseMount, told: Told): Promise<() => Promise<void>> {
  return fuse.rule({ match: { opcode: 'STATX' }, action: { do: 'body', body: statxAnswer(told) } });
}

function needsStatx(guest: TestGuest): void {
  if (!guest.expected.asksTimeOfBirth) guest.skip('this kernel does not ask a server for times of birth');
}

guestTest('statx tells what the server says of a file, and its time of birth', async (t, guest) => {
  needsStatx(guest);
  await using fuse = await guest.mountFuse({ entryValidS: 1000, attrValidS: 0 });
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
  const path = fuse.file('f');
  const takeBack = await answer(fuse, { mask: BASIC_STATS | BTIME, validS: 1000 });
  const expected = { ...NUMBERS, ...TIMES, size: 5, mode: REGULAR, mask: BASIC_STATS | BTIME };
  t.like(await told(client, path), expected);
  t.like(await told(client, path), expected, 'once more');
  const { btimeNs, ...others } = TIMES;
  t.like(
    await client.stat({ path }),
    { ...NUMBERS, ...others, size: 5, mode: REGULAR },
    `without ${btimeNs}`,
  );
  const asked = await fuse.requests({ opcode: ['STATX', 'GETATTR'] });
  t.deepEqual(
    asked.map(({ opcode }) => opcode),
    ['STATX'],
    'the answer counts as long as it says',
  );
  t.like(asked[0]?.args, { getattr_flags: 0, sx_flags: 0, sx_mask: BASIC_STATS | BTIME });
  await takeBack();
});

guestTest('the time of birth is asked for though all else is known of the file', async (t, guest) => {
  needsStatx(guest);
  await using fuse = await guest.mountFuse({ entryValidS: 1000, attrValidS: 1000 });
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
  const path = fuse.file('f');
  await client.stat({ path });
  const after = await fuse.position();
  await client.stat({ path });
  t.deepEqual(await fuse.opcodes({ after }), [], 'attributes that count');
  await answer(fuse, { mask: BASIC_STATS | BTIME, validS: 1000 });
  t.is((await told(client, path)).btimeNs, TIMES.btimeNs);
  t.deepEqual(await fuse.opcodes({ after }), ['STATX']);
});

guestTest('a server without STATX is asked once, and GETATTR instead', async (t, guest) => {
  needsStatx(guest);
  await using fuse = await guest.mountFuse();
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
  for (const time of ['first', 'second']) {
    const after = await fuse.position();
    t.like(
      await told(client, fuse.file('f'), 'AT_STATX_FORCE_SYNC'),
      { size: 8, btimeNs: null, mask: BASIC_STATS },
      time,
    );
    const sent = await fuse.opcodes({ opcode: ['STATX', 'GETATTR'], after });
    t.deepEqual(sent, time === 'first' ? ['STATX', 'GETATTR'] : ['GETATTR'], time);
  }
});

guestTest('a server without STATX is not asked when the time of birth alone is wanted', async (t, guest) => {
  needsStatx(guest);
  await using fuse = await guest.mountFuse();
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
  for (const [time, sent] of [
    ['first', ['STATX']],
    ['second', []],
  ] as const) {
    const after = await fuse.position();
    const how = { path: fuse.file('f'), mask: BTIME, flags: 'AT_STATX_FORCE_SYNC' };
    const { mask } = await client.stat(how);
    t.is(mask & BTIME, 0, `${time}: there is none`);
    const asked = await fuse.opcodes({ opcode: ['STATX', 'GETATTR'], after });
    t.deepEqual(asked, sent, `${time}: what the server is asked, which has nothing of what is wanted`);
  }
});

guestTest('of an answer to STATX that has not everything nothing is kept', async (t, guest) => {
  needsStatx(guest);
  await using fuse = await guest.mountFuse({ entryValidS: 1000, attrValidS: 1000 });
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
  const path = fuse.file('f');
  await client.stat({ path });
  const takeBack = await answer(fuse, { mask: BTIME | SIZE, validS: 1000 });
  t.like(await told(client, path, 'AT_STATX_FORCE_SYNC'), {
    mask: BTIME | SIZE | TYPE,
    btimeNs: TIMES.btimeNs,
    size: 5,
  });
  await takeBack();
  t.like(await client.stat({ path }), { size: 8, nlink: 1 }, 'what was known before');
  await answer(fuse, { mask: BTIME, mode: 0, size: 1n << 63n });
  const { btimeNs } = await told(client, path, 'AT_STATX_FORCE_SYNC');
  t.is(btimeNs, TIMES.btimeNs, 'what it says that it does not have may be what there cannot be');
});

guestTest(
  'no time of birth that a server tells has a second or more in its nanoseconds, kept or not',
  async (t, guest) => {
    needsStatx(guest);
    await using fuse = await guest.mountFuse({ entryValidS: 1000, attrValidS: 1000 });
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
    const seconds = TIMES.btimeNs - (TIMES.btimeNs % 1e9);
    for (const [what, mask, ways] of [
      ['an answer that has nothing else', BTIME, ['AT_STATX_FORCE_SYNC']],
      ['one that has everything', BASIC_STATS | BTIME, ['AT_STATX_FORCE_SYNC', 'AT_STATX_DONT_SYNC']],
    ] as const) {
      for (const said of [999_999_999, 1_000_000_000, 4_294_967_295]) {
        const takeBack = await answer(fuse, { mask, nanoseconds: said });
        for (const flags of ways) {
          const { btimeNs } = await told(client, fuse.file('f'), flags);
          t.is(btimeNs, seconds + 999_999_999, `${what}: ${said} ns, ${flags}`);
        }
        await takeBack();
      }
    }
  },
);

guestTest('a time that takes more than 32 bits is told as an answer to STATX has it', async (t, guest) => {
  needsStatx(guest);
  await using fuse = await guest.mountFuse({ entryValidS: 1000, attrValidS: 0 });
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
  // Seconds, with no more digits than a double has.
  for (const [what, from] of [
    ['in the year 2242', 2 ** 33],
    ['in the year 1697', -(2 ** 33)],
  ] as const) {
    const at = (nth: number): number => (from + nth * 2048) * 1e9;
    const times = { atimeNs: at(1), btimeNs: at(2), ctimeNs: at(3), mtimeNs: at(4) };
    const takeBack = await answer(fuse, { mask: BASIC_STATS | BTIME, validS: 1000, times });
    for (const flags of ['AT_STATX_FORCE_SYNC', 'AT_STATX_DONT_SYNC']) {
      t.like(await told(client, fuse.file('f'), flags), times, `${what}, ${flags}`);
    }
    await takeBack();
  }
});

guestTest(
  'of a file whose answer to STATX has no time of birth none is told, by the cache either',
  async (t, guest) => {
    needsStatx(guest);
    await using fuse = await guest.mountFuse({ entryValidS: 1000, attrValidS: 0 });
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
    await answer(fuse, { mask: BASIC_STATS, validS: 1000 });
    for (const time of ['first', 'second']) {
      t.like(await told(client, fuse.file('f')), { mask: BASIC_STATS, btimeNs: null, size: 5 }, time);
    }
    t.deepEqual(
      await fuse.opcodes({ opcode: ['STATX', 'GETATTR'] }),
      ['STATX'],
      'the second is of the cache',
    );
  },
);

for (const [what, wrong] of [
  ['of a directory', { mode: DIRECTORY }],
  ['with a size that no file has', { size: 1n << 63n }],
] as const) {
  guestTest(`an answer to STATX ${what} makes a passthrough file EIO for good (B24)`, async (t, guest) => {
    needsStatx(guest);
    await using fuse = await guest.mountFuse();
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
    const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
    const takeBack = await answer(fuse, { mask: BASIC_STATS | BTIME, ...wrong });
    t.is(await client.errno.fstat({ fd, btime: true, flags: 'AT_STATX_FORCE_SYNC' }), 'EIO');
    await takeBack();
    t.is(await client.errno.pread({ fd, count: 8, offset: 0 }), 'EIO');
    t.is(await client.errno.close({ fd }), 'EIO');
    // Until then the kernel has the inode, and finds it again by its number.
    await fuse.waitFor('RELEASE');
    t.like(await client.stat({ path: fuse.file('f') }), { size: 8 }, 'looked up anew');
    t.deepEqual(await fuse.dataRequests(), []);
  });
}

guestTest(
  'a size that an answer to STATX brings counts, but not one that is older than a truncation (A41)',
  async (t, guest) => {
    needsStatx(guest);
    await using fuse = await guest.mountFuse({ passthrough: 'off', entryValidS: 1000, attrValidS: 1000 });
    await using client = await guest.client();
    await using other = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
    const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
    const seen = await other.open({ path: fuse.file('f'), flags: 'O_RDONLY' });
    for (const [size, truncated] of [
      [6n, false],
      [7n, true],
    ] as const) {
      const hold = await fuse.hold('STATX');
      const asking = other.fstat({ fd: seen, btime: true, flags: 'AT_STATX_FORCE_SYNC' });
      asking.catch(() => undefined);
      const request = await hold.arrived();
      if (truncated) await client.ftruncate({ fd, length: 3 });
      await hold.stop();
      const body = statxAnswer({ mask: BASIC_STATS | BTIME, validS: 1000, size });
      await hold.release(request, { do: 'body', body });
      await asking;
      const known = await client.fstat({ fd, flags: 'AT_STATX_DONT_SYNC' });
      t.is(
        known.size,
        truncated ? 3 : Number(size),
        `the answer says ${size}, truncated meanwhile: ${truncated}`,
      );
    }
    await client.close({ fd });
    await other.close({ fd: seen });
  },
);
