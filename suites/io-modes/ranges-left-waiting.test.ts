import { pattern } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import { OpenFlag } from '../lib/fuse-abi.ts';
import type { FuseMount } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';
import { mountWritebackCache, pageOf } from '../lib/writeback-cache.ts';

/** Calls about a part of a file of which pages wait in the writeback cache: what waits elsewhere in it waits on. */

const PAGE = 4096;
const PAGES = 8;
/** Pages that wait: in front of the range that a call is about, the range itself, and behind it. */
const [FRONT, RANGE, BEHIND] = [1, 3, 5];
const AT = { offset: RANGE * PAGE } as const;

interface Opened {
  readonly fd: number;
  /** The same file, opened with O_DSYNC. */
  readonly durable: number;
  /** The same file, past the cache. */
  readonly direct: number;
  readonly other: number;
}

interface Call {
  readonly make: (client: Client, opened: Opened) => Promise<unknown>;
  /** The pages that are sent, in this order. */
  readonly sends: readonly number[];
  readonly needs?: (guest: TestGuest) => boolean;
}

const COPY = { offIn: RANGE * PAGE, offOut: RANGE * PAGE, length: PAGE } as const;
/** Later kernels write back what such a call would not see. */
const looksAtTheCache = ({ expected }: TestGuest): boolean => expected.hasIoModes;

const CALLS: Readonly<Record<string, Call>> = {
  'a write on O_DSYNC': {
    make: (client, { durable }) => client.pwrite({ fd: durable, data: pageOf(9), ...AT }),
    sends: [RANGE],
  },
  'a write with RWF_SYNC': {
    make: (client, { fd }) => client.pwritev2({ fd, chunks: [pageOf(9)], ...AT, flags: 'RWF_SYNC' }),
    sends: [RANGE],
  },
  'a direct read': {
    make: (client, { direct }) => client.pread({ fd: direct, count: PAGE, ...AT }),
    sends: [RANGE],
    needs: looksAtTheCache,
  },
  'a direct write': {
    make: (client, { direct }) => client.pwrite({ fd: direct, data: pageOf(9), ...AT }),
    // What has waited, and what is written.
    sends: [RANGE, RANGE],
    needs: looksAtTheCache,
  },
  // What waits behind the range may be beside it in a larger page, and is written with it.
  'fallocate of a hole': {
    make: (client, { fd }) =>
      client.fallocate({ fd, mode: 'FALLOC_FL_PUNCH_HOLE|FALLOC_FL_KEEP_SIZE', ...AT, length: PAGE }),
    sends: [RANGE, BEHIND],
  },
  'copy_file_range from it': {
    make: (client, { fd, other }) => client.copy_file_range({ fdIn: fd, fdOut: other, ...COPY }),
    sends: [RANGE, BEHIND],
  },
  'copy_file_range to it': {
    make: (client, { fd, other }) => client.copy_file_range({ fdIn: other, fdOut: fd, ...COPY }),
    sends: [RANGE, BEHIND],
  },
};

/** The page at which each WRITE begins. */
async function pagesSent(fuse: FuseMount, after: number): Promise<number[]> {
  const requests = await fuse.requests({ opcode: 'WRITE', path: '/f', after });
  return requests.map(({ args }) => Number(args['offset']) / PAGE);
}

for (const [what, { make, sends, needs }] of Object.entries(CALLS)) {
  guestTest(`${what} leaves waiting in the cache what its range has nothing to do with`, async (t, guest) => {
    if (needs !== undefined) guest.needs(needs(guest), 'direct I/O that looks at what waits in the cache');
    await using fuse = await mountWritebackCache(guest);
    await using client = await guest.client();
    for (const name of ['f', 'other']) {
      await client.writeFile({ path: fuse.backing(name), data: pattern(PAGES * PAGE) });
    }
    const open = async (name: string, flags = 'O_RDWR'): Promise<number> =>
      client.open({ path: fuse.file(name), flags });
    const [fd, durable, other] = [await open('f'), await open('f', 'O_RDWR|O_DSYNC'), await open('other')];
    await fuse.answerOpen('OPEN', { openFlags: OpenFlag.DIRECT_IO }, 1);
    const opened = { fd, durable, other, direct: await open('f') };
    const after = await fuse.position();
    for (const page of [FRONT, RANGE, BEHIND]) {
      await client.pwrite({ fd, data: pageOf(page), offset: page * PAGE });
    }
    t.deepEqual(await pagesSent(fuse, after), [], 'all three wait');
    await make(client, opened);
    t.deepEqual(await pagesSent(fuse, after), [...sends], `${what}: the pages that are sent by it`);
    await client.fsync({ fd });
    const rest = [FRONT, RANGE, BEHIND].filter((page) => !sends.includes(page));
    t.deepEqual((await pagesSent(fuse, after)).slice(sends.length), rest, 'the others are when fsync asks');
    for (const each of Object.values(opened)) await client.close({ fd: each });
  });
}
