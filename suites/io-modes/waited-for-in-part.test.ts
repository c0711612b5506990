import { concat, firstDifference, pattern } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import { OpenFlag } from '../lib/fuse-abi.ts';
import type { FuseMount } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';
import { beginWriteback, mountWritebackCache, pageOf } from '../lib/writeback-cache.ts';

/** Reads and writes of several pages of which some, not the first, wait to be written or are on their way. */

const PAGE = 4096;
const PAGES = 6;
/** The page that is being written back, and those that are read or written meanwhile: it is not the first of them. */
const SENT = 3;
const RANGE = { first: 2, pages: 3 } as const;

interface Way {
  readonly opcode: 'READ' | 'WRITE';
  readonly flags: string;
  /** Gives what the range is to be afterwards, as far as the call knows. */
  readonly call: (client: Client, fd: number) => Promise<Uint8Array>;
}

const AT = { offset: RANGE.first * PAGE } as const;

const WAYS: Readonly<Record<string, Way>> = {
  'a direct read': {
    opcode: 'READ',
    flags: 'O_RDONLY|O_DIRECT',
    call: (client, fd) => client.pread({ fd, count: RANGE.pages * PAGE, ...AT }),
  },
  'a cached read': {
    opcode: 'READ',
    flags: 'O_RDONLY',
    call: (client, fd) => client.pread({ fd, count: RANGE.pages * PAGE, ...AT }),
  },
  'a direct write': {
    opcode: 'WRITE',
    flags: 'O_WRONLY|O_DIRECT',
    call: async (client, fd) => {
      const data = pattern(RANGE.pages * PAGE, 9);
      await client.pwrite({ fd, data, ...AT });
      return data;
    },
  },
};

async function open(client: Client, fuse: FuseMount, name: string): Promise<number> {
  await client.writeFile({ path: fuse.backing(name), data: pattern(PAGES * PAGE) });
  return client.open({ path: fuse.file(name), flags: 'O_RDWR' });
}

/** How many requests are about the page, alone or among others: a kernel may have kept it, and ask for the others. */
async function about(fuse: FuseMount, opcode: 'READ' | 'WRITE', after: number): Promise<number> {
  const requests = await fuse.requests({ opcode, after });
  return requests.filter(({ args }) => {
    const [offset, size] = [Number(args['offset']), Number(args['size'])];
    return offset < (SENT + 1) * PAGE && offset + size > SENT * PAGE;
  }).length;
}

for (const [what, { opcode, flags, call }] of Object.entries(WAYS)) {
  guestTest(
    `${what} of several pages waits for one of them that is being written back, though it is not the first`,
    async (t, guest) => {
      await using fuse = await mountWritebackCache(guest);
      await using client = await guest.client();
      await using other = await guest.client();
      const fd = await open(client, fuse, 'f');
      const own = await other.open({ path: fuse.file('f'), flags });
      const hold = await fuse.hold('WRITE');
      await client.pwrite({ fd, data: pageOf(SENT), offset: SENT * PAGE });
      await beginWriteback(client, fd);
      const write = await hold.arrived();
      await client.posix_fadvise({ fd, offset: 0, length: 0, advice: 'POSIX_FADV_DONTNEED' });
      const after = await fuse.position();
      const calling = call(other, own);
      calling.catch(() => undefined);
      // A request that is sent now comes after one that would not wait.
      await client.stat({ path: fuse.path });
      t.is(await about(fuse, opcode, after), 0, `no ${opcode} of the page before it is written`);
      await hold.stop();
      await hold.release(write);
      const seen = await calling;
      const wanted =
        opcode === 'WRITE'
          ? seen
          : concat(
              pattern(PAGES * PAGE).subarray(2 * PAGE, 3 * PAGE),
              pageOf(SENT),
              pattern(PAGES * PAGE).subarray(4 * PAGE, 5 * PAGE),
            );
      t.is(firstDifference(seen, wanted), undefined, 'what is read');
      const stored = await client.readFile({ path: fuse.backing('f') });
      const there = stored.subarray(AT.offset, AT.offset + RANGE.pages * PAGE);
      t.is(firstDifference(there, wanted), undefined, 'what the server has');
      await other.close({ fd: own });
      await client.close({ fd });
    },
  );
}

guestTest(
  'a direct read has the pages of its range written before, wherever in the file it begins',
  async (t, guest) => {
    guest.needs(guest.expected.hasIoModes, 'direct reads that look at what waits in the cache');
    await using fuse = await mountWritebackCache(guest);
    await using client = await guest.client();
    for (const [first, dirty, length] of [
      [0, 0, PAGE],
      [1, 1, PAGE],
      [4, 4, 100],
      [2, 4, 3 * PAGE],
    ] as const) {
      const what = `${length} bytes from page ${first}, page ${dirty} of which waits`;
      const name = `f${first}-${dirty}`;
      const fd = await open(client, fuse, name);
      await fuse.answerOpen('OPEN', { openFlags: OpenFlag.DIRECT_IO }, 1);
      const direct = await client.open({ path: fuse.file(name), flags: 'O_RDONLY' });
      await client.pwrite({ fd, data: pageOf(dirty + 1), offset: dirty * PAGE });
      const wanted = pattern(PAGES * PAGE);
      wanted.fill(dirty + 1, dirty * PAGE, (dirty + 1) * PAGE);
      const after = await fuse.position();
      const seen = await client.pread({ fd: direct, count: length, offset: first * PAGE });
      t.is(firstDifference(seen, wanted.subarray(first * PAGE, first * PAGE + length)), undefined, what);
      const sent = await fuse.opcodes({ opcode: ['READ', 'WRITE'], after });
      t.deepEqual([...new Set(sent)], ['WRITE', 'READ'], `${what}: what is sent`);
      for (const each of [direct, fd]) await client.close({ fd: each });
    }
  },
);

guestTest(
  'pages that are read into the cache while a direct write of them is under way do not stay there',
  async (t, guest) => {
    guest.needs(guest.expected.hasIoModes, 'direct writes that look at what others have in the cache');
    await using fuse = await guest.mountFuse({ passthrough: 'off', attrValidS: 100_000 });
    await using client = await guest.client();
    await using writer = await guest.client();
    const fd = await open(client, fuse, 'f');
    await fuse.answerOpen('OPEN', { openFlags: OpenFlag.DIRECT_IO | OpenFlag.KEEP_CACHE }, 1);
    const direct = await writer.open({ path: fuse.file('f'), flags: 'O_WRONLY' });
    const hold = await fuse.hold('WRITE');
    const writing = writer.pwrite({ fd: direct, data: concat(pageOf(1), pageOf(2)), offset: PAGE });
    writing.catch(() => undefined);
    const write = await hold.arrived();
    const before = await client.pread({ fd, count: PAGES * PAGE, offset: 0 });
    t.is(firstDifference(before, pattern(PAGES * PAGE)), undefined, 'what the server has before');
    await hold.stop();
    await hold.release(write);
    t.is(await writing, 2 * PAGE);
    const wanted = pattern(PAGES * PAGE);
    wanted.set(pageOf(1), PAGE);
    wanted.set(pageOf(2), 2 * PAGE);
    const seen = await client.pread({ fd, count: PAGES * PAGE, offset: 0 });
    t.is(firstDifference(seen, wanted), undefined, 'what is read once the write is done');
    await writer.close({ fd: direct });
    await client.close({ fd });
  },
);
