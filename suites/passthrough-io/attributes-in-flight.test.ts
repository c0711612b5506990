import { bytes, pattern, text } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import type { FuseMount } from '../lib/fuse-mount.ts';
import { ATTR, ATTR_OUT, u32, u64 } from '../lib/entry-answer.ts';
import type { OpcodeName } from '../lib/fuse-abi.ts';
import { guestTest } from '../lib/guest-test.ts';
import { Witness } from '../lib/witness.ts';

/** What FUSE knows of a file while an answer is on its way, and after a write that came to nothing. */

/** Where `size` stands in the answer to GETATTR: behind validity (16 bytes) and the inode number. */
const ATTR_SIZE_AT = 24;
const BEYOND = 9000;
const PAGE = 4096;
/** Longer than any test. Seconds. */
const LONG = 100_000;

type Write = (client: Client, fd: number) => Promise<unknown>;

/** Every way to write three bytes beyond the end. */
const WRITES: Readonly<Record<string, Write>> = {
  write: (client, fd) => client.errno.pwrite({ fd, data: 'new', offset: BEYOND }),
  writev: (client, fd) => client.errno.pwritev2({ fd, chunks: [pattern(1), pattern(2)], offset: BEYOND }),
  'asynchronous write': (client, fd) =>
    client.aio({ operations: [{ op: 'pwrite', fd, data: bytes('new'), offset: BEYOND }] }),
  splice: async (client, fd) => {
    const [fdIn, end] = await client.pipe({});
    await client.write({ fd: end, data: 'new' });
    await client.errno.splice({ fdIn, fdOut: fd, offOut: BEYOND, length: 3 });
    for (const each of [fdIn, end]) await client.close({ fd: each });
  },
};

guestTest(
  'attributes that are older than a write do not make the file short again (A41)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse({ attrValidS: 3600 });
    await using client = await guest.client();
    await using other = await guest.client();
    const old = new Uint8Array(8);
    old[0] = 5;
    for (const [what, write] of Object.entries(WRITES)) {
      await client.writeFile({ path: fuse.backing(what), data: 'short' });
      const fd = await client.open({ path: fuse.file(what), flags: 'O_RDWR' });
      const hold = await fuse.hold({ opcode: 'GETATTR', path: `/${what}` });
      const asking = other.stat({ path: fuse.file(what), flags: 'AT_STATX_FORCE_SYNC' });
      asking.catch(() => undefined);
      const request = await hold.arrived();
      await write(client, fd);
      await hold.stop();
      await hold.release(request, { do: 'patch', at: ATTR_SIZE_AT, bytes: old });
      await asking;
      const { size } = await client.fstat({ fd, flags: 'AT_STATX_DONT_SYNC' });
      t.is(size, BEYOND + 3, `${what}: the answer was asked for before it`);
      await client.close({ fd });
    }
    t.deepEqual(await fuse.dataRequests(), []);
  },
);

guestTest(
  'a write that fails leaves the size as it was, whichever way was written (A39, A41)',
  async (t, guest) => {
    await using witness = await Witness.mount(guest, { io: 'cached', upper: { attrValidS: 3600 } });
    await using client = await guest.client();
    const { lower, upper } = witness;
    for (const [what, write] of Object.entries(WRITES)) {
      await client.writeFile({ path: upper.backing(what), data: 'short' });
      const fd = await client.open({ path: upper.file(what), flags: 'O_RDWR' });
      await client.fstat({ fd });
      const takeBack = await lower.fail('WRITE', 'ENOSPC');
      await write(client, fd);
      await takeBack();
      const { size } = await client.fstat({ fd, flags: 'AT_STATX_DONT_SYNC' });
      t.is(size, 5, `${what}: as the kernel has it`);
      t.is((await client.fstat({ fd })).size, 5, `${what}: as the server says`);
      await write(client, fd);
      t.is(
        (await client.fstat({ fd, flags: 'AT_STATX_DONT_SYNC' })).size,
        BEYOND + 3,
        `${what}: one that works`,
      );
      await client.close({ fd });
    }
    t.deepEqual(await upper.dataRequests(), []);
  },
);

guestTest(
  'statx asks the server when it is told to, and not when it is told not to (A41)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse({ attrValidS: 3600 });
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'short' });
    const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
    const asked = async (flags: string) => {
      const after = await fuse.position();
      await client.fstat({ fd, flags });
      return (await fuse.requests({ opcode: 'GETATTR', after })).length;
    };
    t.is(await asked('AT_STATX_FORCE_SYNC'), 1, 'told to');
    t.is(await asked(''), 0, 'by itself: what it knows is good for an hour');
    t.is(await asked('AT_STATX_FORCE_SYNC'), 1, 'told to, though it knows');
    await client.pwrite({ fd, data: 'x', offset: 0 });
    t.is(await asked('AT_STATX_DONT_SYNC'), 0, 'told not to, though it is outdated');
    t.is(await asked(''), 1, 'by itself, after a write');
    await client.close({ fd });
  },
);

/** `STATX_*` of linux/stat.h, and whether a write makes what they ask for outdated. */
const ASKED_FOR = {
  'the time of access': { mask: 0x20, outdated: false },
  'the time of change': { mask: 0x40, outdated: true },
  'the time of change of attributes': { mask: 0x80, outdated: true },
  'how many blocks it has': { mask: 0x400, outdated: true },
} as const;

guestTest(
  'after a write the server is asked for what the write has changed, and not for the time of access (A40, A41)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse({ entryValidS: LONG, attrValidS: LONG });
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'short' });
    const path = fuse.file('f');
    const fd = await client.open({ path, flags: 'O_RDWR' });
    for (const [what, { mask, outdated }] of Object.entries(ASKED_FOR)) {
      await client.pwrite({ fd, data: 'x', offset: 0 });
      const after = await fuse.position();
      await client.stat({ path, mask });
      t.deepEqual(await fuse.opcodes({ opcode: 'GETATTR', after }), outdated ? ['GETATTR'] : [], what);
    }
    await client.close({ fd });
    t.deepEqual(await fuse.dataRequests(), []);
  },
);

interface Resize {
  /** Gives the errno, or ok. */
  readonly call: (client: Client, fd: number) => Promise<string>;
  readonly opcode: OpcodeName | readonly OpcodeName[];
}

/** Calls that change the size of five bytes, and what they send. */
const RESIZES: Readonly<Record<string, Resize>> = {
  'a write behind the end': {
    // A whole page: of a part the page stays locked, and who shortens the file meanwhile would wait for it.
    call: (client, fd) => client.errno.pwrite({ fd, data: pattern(PAGE), offset: 2 * PAGE }),
    opcode: 'WRITE',
  },
  'a write across the end': {
    call: (client, fd) => client.errno.pwrite({ fd, data: pattern(PAGE), offset: 0 }),
    opcode: 'WRITE',
  },
  copy_file_range: {
    call: (client, fd) =>
      client.errno.copy_file_range({ fdIn: fd, offIn: 0, fdOut: fd, offOut: 5, length: 5 }),
    opcode: ['COPY_FILE_RANGE', 'COPY_FILE_RANGE_64'],
  },
  fallocate: {
    call: (client, fd) => client.errno.fallocate({ fd, offset: 0, length: BEYOND }),
    opcode: 'FALLOCATE',
  },
  ftruncate: {
    call: (client, fd) => client.errno.ftruncate({ fd, length: BEYOND }),
    opcode: 'SETATTR',
  },
};

interface Sides {
  readonly fuse: FuseMount;
  /** Who calls. */
  readonly client: Client;
  /** Who looks meanwhile. */
  readonly other: Client;
}

/**
 * Makes the call on the file of that name. While the server has its request another client may see which size the
 * kernel knows, and have the server asked for it. @returns the errno of the call.
 */
async function whileCalling(
  { fuse, client, other }: Sides,
  [name, { call, opcode }]: readonly [string, Resize],
  look: (known: () => Promise<number>, asked: () => Promise<number>) => Promise<void>,
): Promise<string> {
  const fd = await client.open({ path: fuse.file(name), flags: 'O_RDWR' });
  const seen = await other.open({ path: fuse.file(name), flags: 'O_RDONLY' });
  const size = async (flags: string): Promise<number> => (await other.fstat({ fd: seen, flags })).size;
  const hold = await fuse.hold({ opcode });
  const calling = call(client, fd);
  calling.catch(() => undefined);
  const request = await hold.arrived();
  await look(
    () => size('AT_STATX_DONT_SYNC'),
    () => size('AT_STATX_FORCE_SYNC'),
  );
  await hold.stop();
  await hold.release(request);
  const outcome = await calling;
  await client.close({ fd });
  await other.close({ fd: seen });
  return outcome;
}

guestTest(
  'while a call changes the size what the server tells of it does not count (A41)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse({ passthrough: 'off', attrValidS: LONG });
    await using client = await guest.client();
    await using other = await guest.client();
    await fuse.rule({
      match: { opcode: 'GETATTR' },
      action: { do: 'patch', at: ATTR_SIZE_AT, bytes: u64(3n) },
    });
    for (const [what, resize] of Object.entries(RESIZES)) {
      await client.writeFile({ path: fuse.backing(what), data: 'short' });
      const outcome = await whileCalling({ fuse, client, other }, [what, resize], async (known, asked) => {
        await asked();
        t.is(await known(), 5, `${what}: the size that the kernel knows`);
      });
      t.is(outcome, 'ok', what);
    }
  },
);

/** Calls that write where the file is already, or behind it without making it longer, on a file of one page. */
const KEEPING: Readonly<Record<string, Resize>> = {
  'a write up to the end': {
    call: (client, fd) => client.errno.pwrite({ fd, data: pattern(PAGE), offset: 0 }),
    opcode: 'WRITE',
  },
  'copy_file_range up to the end': {
    call: (client, fd) =>
      client.errno.copy_file_range({ fdIn: fd, offIn: 0, fdOut: fd, offOut: PAGE - 5, length: 5 }),
    opcode: ['COPY_FILE_RANGE', 'COPY_FILE_RANGE_64'],
  },
  'fallocate with FALLOC_FL_KEEP_SIZE': {
    call: (client, fd) =>
      client.errno.fallocate({ fd, mode: 'FALLOC_FL_KEEP_SIZE', offset: 0, length: BEYOND }),
    opcode: 'FALLOCATE',
  },
};

guestTest(
  'while a call does not change the size what the server tells of it counts at once (A41)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse({ passthrough: 'off', attrValidS: LONG });
    await using client = await guest.client();
    await using other = await guest.client();
    await fuse.rule({
      match: { opcode: 'GETATTR' },
      action: { do: 'patch', at: ATTR_SIZE_AT, bytes: u64(BigInt(BEYOND)) },
    });
    for (const [what, resize] of Object.entries(KEEPING)) {
      await client.writeFile({ path: fuse.backing(what), data: pattern(PAGE) });
      const outcome = await whileCalling({ fuse, client, other }, [what, resize], async (known, asked) => {
        t.is(await known(), PAGE, `${what}: the size before the server has told another`);
        await asked();
        t.is(await known(), BEYOND, `${what}: the size that the server has told meanwhile`);
      });
      t.is(outcome, 'ok', what);
    }
  },
);

guestTest(
  'after a call that changed the size, or failed to, what the server tells of it counts again (A41)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse({ passthrough: 'off' });
    await using client = await guest.client();
    for (const outcome of ['EACCES', 'ok']) {
      for (const [what, { call, opcode }] of Object.entries(RESIZES)) {
        const name = `${what}, ${outcome}`;
        const path = fuse.backing(name);
        await client.writeFile({ path, data: 'short' });
        const fd = await client.open({ path: fuse.file(name), flags: 'O_RDWR' });
        const takeBack = outcome === 'ok' ? undefined : await fuse.fail({ opcode }, outcome);
        t.is(await call(client, fd), outcome, name);
        await takeBack?.();
        await client.writeFile({ path, data: 'and more', flags: 'O_WRONLY|O_APPEND' });
        const seen = await client.pread({ fd, count: 2 * BEYOND, offset: 0 });
        t.is(text(seen.subarray(-8)), 'and more', `${name}: a read sees what the file got afterwards`);
        await client.close({ fd });
      }
    }
  },
);

/** Calls that an answer to GETATTR from before them must not undo: what it says, and what is true. */
const OVERTAKING: Readonly<
  Record<
    string,
    {
      readonly call: (client: Client, path: string) => Promise<unknown>;
      readonly member: 'nlink' | 'size';
      readonly old: Uint8Array;
      readonly now: number;
    }
  >
> = {
  unlink: {
    call: (client, path) => client.unlink({ path }),
    member: 'nlink',
    old: u32(1),
    now: 0,
  },
  'an open with O_TRUNC': {
    call: async (client, path) =>
      client.close({ fd: await client.open({ path, flags: 'O_WRONLY|O_TRUNC' }) }),
    member: 'size',
    old: u64(5n),
    now: 0,
  },
};

guestTest(
  'attributes that are older than an unlink or a truncation do not undo it (A41)',
  async (t, guest) => {
    // Names that count: a LOOKUP on the way would bring newer attributes than those that are held.
    await using fuse = await guest.mountFuse({ passthrough: 'off', entryValidS: LONG, attrValidS: LONG });
    await using client = await guest.client();
    await using other = await guest.client();
    for (const [what, { call, member, old, now }] of Object.entries(OVERTAKING)) {
      await client.writeFile({ path: fuse.backing(what), data: 'short' });
      const fd = await other.open({ path: fuse.file(what), flags: 'O_RDONLY' });
      const hold = await fuse.hold({ opcode: 'GETATTR', path: `/${what}` });
      const asking = other.fstat({ fd, flags: 'AT_STATX_FORCE_SYNC' });
      asking.catch(() => undefined);
      const request = await hold.arrived();
      await call(client, fuse.file(what));
      await hold.stop();
      await hold.release(request, { do: 'patch', at: ATTR_OUT.attr + ATTR[member], bytes: old });
      await asking;
      const known = await other.fstat({ fd, flags: 'AT_STATX_DONT_SYNC' });
      t.is(known[member], now, `${what}: the answer was asked for before it`);
      await other.close({ fd });
    }
  },
);

for (const [opcode, ask] of [
  ['GETATTR', (client: Client, fd: number) => client.fstat({ fd, flags: 'AT_STATX_FORCE_SYNC' })],
  ['SETATTR', (client: Client, fd: number) => client.fchmod({ fd, mode: 0o600 })],
] as const) {
  guestTest(
    `attributes that the server takes back while its answer to ${opcode} is on its way are asked for again (A41)`,
    async (t, guest) => {
      guest.needs(
        opcode === 'GETATTR' || guest.expected.hasIoModes,
        'look at how old the attributes are that SETATTR brings, which came after 6.1',
      );
      await using fuse = await guest.mountFuse({ attrValidS: LONG });
      await using client = await guest.client();
      await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
      const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
      const hold = await fuse.hold(opcode);
      const asking = ask(client, fd);
      asking.catch(() => undefined);
      const request = await hold.arrived();
      t.is(await fuse.notify({ inode: '/f', offset: -1, length: 0 }), 'ok');
      await hold.stop();
      await hold.release(request);
      await asking;
      const after = await fuse.position();
      await client.fstat({ fd });
      t.deepEqual(await fuse.opcodes({ opcode: 'GETATTR', after }), ['GETATTR']);
      await client.close({ fd });
    },
  );
}
