import { firstDifference, pattern } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import { FATTR_FH, type OpcodeName, type RequestRecord } from '../lib/fuse-abi.ts';
import type { FuseMount } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';
import { beginWriteback, mountWritebackCache } from '../lib/writeback-cache.ts';

/** What has to be sent, and answered, before what else where writes wait in the page cache of FUSE. */

const PAGE = 4096;
const LONG_AGO_NS = 1_500_000_000_000_000_000;
/** include/uapi/linux/fuse.h */
const FATTR_SIZE = 1 << 3;
const FATTR_ATIME = 1 << 4;
const FATTR_MTIME = 1 << 5;
const FATTR_CTIME = 1 << 10;
/** chown(2) */
const UNCHANGED = -1;

/** A new file, open, of which nothing is in the cache. */
async function open(
  client: Client,
  fuse: FuseMount,
  data: Uint8Array | string = '',
  name = 'f',
): Promise<number> {
  await client.writeFile({ path: fuse.backing(name), data });
  return client.open({ path: fuse.file(name), flags: 'O_RDWR' });
}

/** Calls that write back, and what they send when that is done. */
const SYNCS = [
  ['close', 'FLUSH'],
  ['fsync', 'FSYNC'],
] as const;

guestTest('close and fsync wait for what is being written back, and give its error', async (t, guest) => {
  for (const [call, request] of SYNCS) {
    await using fuse = await mountWritebackCache(guest);
    await using client = await guest.client();
    await using other = await guest.client();
    const fd = await open(client, fuse);
    const hold = await fuse.hold('WRITE');
    const after = await fuse.position();
    await client.pwrite({ fd, data: 'lost', offset: 0 });
    const syncing = client.errno[call]({ fd });
    syncing.catch(() => undefined);
    const write = await hold.arrived();
    // A request that is sent now comes after one that would not wait.
    await other.stat({ path: fuse.file('f') });
    t.deepEqual(await fuse.opcodes({ opcode: request, after }), [], `${call} sends nothing before`);
    await hold.stop();
    await hold.release(write, { do: 'error', errno: 'ENOSPC' });
    t.is(await syncing, 'ENOSPC', `${call} tells that the data are lost`);
  }
});

/** Each kind of request once, in the order in which they first came. */
async function kinds(fuse: FuseMount, after: number, opcode: readonly OpcodeName[]): Promise<string[]> {
  return [...new Set(await fuse.opcodes({ opcode, after }))];
}

guestTest('fsync tells the server the time that the kernel keeps before FSYNC', async (t, guest) => {
  await using fuse = await mountWritebackCache(guest);
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
  await client.utimens({ path: fuse.backing('f'), atimeNs: LONG_AGO_NS, mtimeNs: LONG_AGO_NS });
  const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
  const after = await fuse.position();
  await client.pwrite({ fd, data: 'new', offset: 0 });
  const { mtimeNs } = await client.fstat({ fd, flags: 'AT_STATX_DONT_SYNC' });
  await client.fsync({ fd });
  t.deepEqual(await kinds(fuse, after, ['SETATTR', 'FSYNC']), ['SETATTR', 'FSYNC']);
  const { reply } = await fuse.waitFor('OPEN');
  const [told] = await fuse.requests({ opcode: 'SETATTR', after });
  t.like(
    told?.args,
    { valid: FATTR_MTIME | FATTR_CTIME | FATTR_FH, fh: reply?.open?.fh ?? -1 },
    'the times of change, of data and of attributes, by the handle that may write',
  );
  t.is((await client.stat({ path: fuse.backing('f') })).mtimeNs, mtimeNs, 'the time of the write');
  await client.close({ fd });
});

/** Calls that set what a later write would change. */
const SETTING: Readonly<Record<string, (client: Client, path: string) => Promise<unknown>>> = {
  utimens: (client, path) => client.utimens({ path, atimeNs: LONG_AGO_NS, mtimeNs: LONG_AGO_NS }),
  'utimens of the access time': (client, path) =>
    client.utimens({ path, atimeNs: LONG_AGO_NS, mtimeNs: null }),
  chmod: (client, path) => client.chmod({ path, mode: 0o4755 }),
  'chown of the owner': (client, path) => client.chown({ path, uid: 4000, gid: UNCHANGED }),
  'chown of the group': (client, path) => client.chown({ path, uid: UNCHANGED, gid: 4000 }),
};

guestTest('attributes are set after what waits in the cache was written', async (t, guest) => {
  await using fuse = await mountWritebackCache(guest);
  await using client = await guest.client();
  for (const [what, set] of Object.entries(SETTING)) {
    const fd = await open(client, fuse, 'contents', what);
    const after = await fuse.position();
    await client.pwrite({ fd, data: 'new', offset: 0 });
    await set(client, fuse.file(what));
    t.deepEqual(await kinds(fuse, after, ['WRITE', 'SETATTR']), ['WRITE', 'SETATTR'], what);
    await client.close({ fd });
  }
  const { mtimeNs } = await client.stat({ path: fuse.backing('utimens') });
  t.is(mtimeNs, LONG_AGO_NS, 'times stay as they were set');
});

/** A call about a file of which a page is being written back, and what it sends. */
interface Waiting {
  readonly call: (client: Client, file: { path: string; fd: number; other: number }) => Promise<unknown>;
  readonly opcode: OpcodeName | readonly OpcodeName[];
  /** Where the kernel sends more of that kind: which of them the call is about. */
  readonly counts?: (args: RequestRecord['args']) => boolean;
}

/** Either of them, as the kernel is old or new. */
const COPY = ['COPY_FILE_RANGE', 'COPY_FILE_RANGE_64'] as const;

const WAITING: Readonly<Record<string, Waiting>> = {
  'an open with O_TRUNC': {
    call: async (client, { path }) =>
      client.close({ fd: await client.open({ path, flags: 'O_WRONLY|O_TRUNC' }) }),
    opcode: 'OPEN',
  },
  ftruncate: {
    call: (client, { fd }) => client.ftruncate({ fd, length: 1 }),
    opcode: 'SETATTR',
    counts: ({ valid }) => (Number(valid) & FATTR_SIZE) !== 0,
  },
  utimens: {
    call: (client, { path }) => client.utimens({ path, atimeNs: LONG_AGO_NS, mtimeNs: LONG_AGO_NS }),
    opcode: 'SETATTR',
    // Before it the kernel tells the time of the write, which need not wait.
    counts: ({ valid }) => (Number(valid) & FATTR_ATIME) !== 0,
  },
  'fallocate that makes a hole': {
    call: (client, { fd }) =>
      client.fallocate({ fd, mode: 'FALLOC_FL_PUNCH_HOLE|FALLOC_FL_KEEP_SIZE', offset: 0, length: PAGE }),
    opcode: 'FALLOCATE',
  },
  'copy_file_range from it': {
    call: (client, { fd, other }) =>
      client.copy_file_range({ fdIn: fd, offIn: 0, fdOut: other, offOut: 0, length: PAGE }),
    opcode: COPY,
  },
  'copy_file_range to it': {
    call: (client, { fd, other }) =>
      client.copy_file_range({ fdIn: other, offIn: 0, fdOut: fd, offOut: 0, length: PAGE }),
    opcode: COPY,
  },
};

guestTest(
  'what changes a file or copies it waits for pages that are being written back',
  async (t, guest) => {
    await using fuse = await mountWritebackCache(guest);
    await using client = await guest.client();
    const other = await open(client, fuse, pattern(PAGE), 'other');
    for (const [what, { call, opcode, counts = () => true }] of Object.entries(WAITING)) {
      const fd = await open(client, fuse, pattern(PAGE), what);
      const hold = await fuse.hold('WRITE');
      await client.pwrite({ fd, data: pattern(PAGE, 3), offset: 0 });
      await beginWriteback(client, fd);
      const write = await hold.arrived();
      const after = await fuse.position();
      const calling = call(client, { path: fuse.file(what), fd, other });
      calling.catch(() => undefined);
      // A request that is sent now comes after one that would not wait.
      await client.stat({ path: fuse.path });
      const sent = async (): Promise<number> =>
        (await fuse.requests({ opcode, after })).filter(({ args }) => counts(args)).length;
      t.is(await sent(), 0, `${what} sends nothing while a WRITE is not answered`);
      await hold.stop();
      await hold.release(write);
      await calling;
      t.is(await sent(), 1, `${what} does when it is`);
      await client.close({ fd });
    }
    await client.close({ fd: other });
  },
);

guestTest('pages that a truncation cuts off are not written back', async (t, guest) => {
  await using fuse = await mountWritebackCache(guest);
  await using client = await guest.client();
  const fd = await open(client, fuse);
  await client.pwrite({ fd, data: pattern(3 * PAGE), offset: 0 });
  const hold = await fuse.hold('SETATTR');
  const cutting = client.ftruncate({ fd, length: PAGE + 100 });
  cutting.catch(() => undefined);
  let cut = await hold.arrived();
  // The kernel may tell the time of the write before.
  while ((Number(cut.args['valid']) & FATTR_SIZE) === 0) {
    await hold.release(cut);
    cut = await hold.arrived();
  }
  const after = await fuse.position();
  await beginWriteback(client, fd);
  await client.stat({ path: fuse.path });
  t.deepEqual(await fuse.opcodes({ opcode: 'WRITE', after }), [], 'none while it is under way');
  await hold.stop();
  await hold.release(cut);
  await cutting;
  await client.close({ fd });
  const stored = await client.readFile({ path: fuse.backing('f') });
  t.is(firstDifference(stored, pattern(3 * PAGE).subarray(0, PAGE + 100)), undefined, 'the rest of the file');
});

/** Ways to read a page that is not in the cache: with others ahead, and alone. */
const READING: Readonly<Record<string, (client: Client, fd: number) => Promise<Uint8Array>>> = {
  'a read': (client, fd) => client.pread({ fd, count: PAGE, offset: 0 }),
  'a load': async (client, fd) => {
    const map = await client.mmap({ fd, length: PAGE, prot: 'PROT_READ', flags: 'MAP_PRIVATE' });
    // Else it would read ahead.
    await client.madvise({ map, advice: 'MADV_RANDOM' });
    const seen = await client.mread({ map, offset: 0, length: PAGE });
    await client.munmap({ map });
    return seen;
  },
};

guestTest('a page that was dropped while it is being written back is not read before', async (t, guest) => {
  await using fuse = await mountWritebackCache(guest);
  await using client = await guest.client();
  await using other = await guest.client();
  for (const [what, read] of Object.entries(READING)) {
    const fd = await open(client, fuse, pattern(PAGE), what);
    const hold = await fuse.hold('WRITE');
    await client.pwrite({ fd, data: pattern(PAGE, 3), offset: 0 });
    await beginWriteback(client, fd);
    const write = await hold.arrived();
    await client.posix_fadvise({ fd, offset: 0, length: 0, advice: 'POSIX_FADV_DONTNEED' });
    const after = await fuse.position();
    const reading = read(client, fd);
    reading.catch(() => undefined);
    // A request that is sent now comes after one that would not wait.
    await other.stat({ path: fuse.path });
    t.deepEqual(await fuse.opcodes({ opcode: 'READ', after }), [], `${what} asks for nothing`);
    await hold.stop();
    await hold.release(write);
    t.is(firstDifference(await reading, pattern(PAGE, 3)), undefined, `${what} gives what was written`);
    await client.close({ fd });
  }
});

guestTest('the time of a change that the server carries out is told to it at once', async (t, guest) => {
  await using fuse = await mountWritebackCache(guest);
  await using client = await guest.client();
  const other = await open(client, fuse, pattern(PAGE), 'other');
  const calls: Readonly<Record<string, (fd: number) => Promise<unknown>>> = {
    fallocate: (fd) => client.fallocate({ fd, offset: 0, length: 2 * PAGE }),
    copy_file_range: (fd) =>
      client.copy_file_range({ fdIn: other, offIn: 0, fdOut: fd, offOut: 2 * PAGE, length: PAGE }),
  };
  for (const [what, call] of Object.entries(calls)) {
    const path = fuse.backing(what);
    await client.writeFile({ path, data: pattern(PAGE) });
    await client.utimens({ path, atimeNs: LONG_AGO_NS, mtimeNs: LONG_AGO_NS });
    const fd = await client.open({ path: fuse.file(what), flags: 'O_RDWR' });
    const after = await fuse.position();
    await call(fd);
    t.deepEqual(await kinds(fuse, after, ['SETATTR']), ['SETATTR'], what);
    const { mtimeNs } = await client.fstat({ fd, flags: 'AT_STATX_DONT_SYNC' });
    t.is((await client.stat({ path })).mtimeNs, mtimeNs, `${what}: the time that the kernel keeps`);
    await client.close({ fd });
  }
  await client.close({ fd: other });
});

guestTest('a remount has what waits in the cache sent before it is done', async (t, guest) => {
  await using fuse = await mountWritebackCache(guest);
  await using client = await guest.client();
  const fd = await open(client, fuse, 'old contents');
  const after = await fuse.position();
  await client.pwrite({ fd, data: 'NEW', offset: 0 });
  await client.mount({ source: 'none', target: fuse.path, type: 'fuse', flags: 'MS_REMOUNT' });
  // A request that is sent now comes after those of the remount.
  await client.stat({ path: fuse.path });
  t.deepEqual(await kinds(fuse, after, ['WRITE']), ['WRITE']);
  await client.close({ fd });
});
