import { concat, firstDifference, pattern } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import { OpenFlag } from '../lib/fuse-abi.ts';
import { guestTest } from '../lib/guest-test.ts';

/** Direct I/O between the server and the memory of the caller, wherever in its pages that is. */

const PAGE = 4096;

/** Ways to direct I/O: by the server’s word or the caller’s, and with requests that are sent at once. */
const WAYS = {
  DIRECT_IO: { openFlags: OpenFlag.DIRECT_IO, flags: 'O_RDWR', init: {} },
  O_DIRECT: { openFlags: 0, flags: 'O_RDWR|O_DIRECT', init: {} },
  'O_DIRECT with ASYNC_DIO': {
    openFlags: 0,
    flags: 'O_RDWR|O_DIRECT',
    init: { addFlags: ['ASYNC_DIO'] },
  },
} as const;

interface Placed {
  readonly write: (client: Client, fd: number, data: Uint8Array) => Promise<number>;
  readonly read: (client: Client, fd: number) => Promise<Uint8Array>;
}

/** Lengths of parts, each of which begins on a page of its own. */
const PARTS = [100, PAGE, 1, PAGE + 300, 7];
const LENGTH = PARTS.reduce((sum, part) => sum + part, 0);

/** The data cut into those parts. */
function cut(data: Uint8Array): Uint8Array[] {
  let at = 0;
  return PARTS.map((length) => data.subarray(at, (at += length)));
}

const PLACES: Readonly<Record<string, Placed>> = {
  'behind the beginning of a page': {
    write: (client, fd, data) => client.pwrite({ fd, data, offset: 0, misalign: 1000 }),
    read: (client, fd) => client.pread({ fd, count: LENGTH, offset: 0, misalign: 1000 }),
  },
  'in parts that end within a page': {
    write: (client, fd, data) => client.pwritev2({ fd, chunks: cut(data), offset: 0 }),
    read: (client, fd) => client.preadv2({ fd, counts: PARTS, offset: 0 }),
  },
};

guestTest('direct I/O takes and puts the bytes where the caller has them', async (t, guest) => {
  await using client = await guest.client();
  for (const [way, { openFlags, flags, init }] of Object.entries(WAYS)) {
    await using fuse = await guest.mountFuse({ passthrough: 'off', init });
    await fuse.answerOpen('OPEN', { openFlags });
    for (const [where, { write, read }] of Object.entries(PLACES)) {
      const rest = pattern(100, 9);
      const backing = fuse.backing(where);
      await client.writeFile({ path: backing, data: concat(new Uint8Array(LENGTH), rest) });
      const fd = await client.open({ path: fuse.file(where), flags });
      const data = pattern(LENGTH, 3);
      t.is(await write(client, fd, data), LENGTH, `${way}, ${where}: a write`);
      const written = await client.readFile({ path: backing });
      t.is(firstDifference(written, concat(data, rest)), undefined, `${way}, ${where}: what is written`);
      t.is(firstDifference(await read(client, fd), data), undefined, `${way}, ${where}: what is read`);
      await client.close({ fd });
    }
  }
});

guestTest('direct I/O with memory that is not there is EFAULT, and nothing is sent', async (t, guest) => {
  await using client = await guest.client();
  for (const [way, { openFlags, flags, init }] of Object.entries(WAYS)) {
    await using fuse = await guest.mountFuse({ passthrough: 'off', init });
    await fuse.answerOpen('OPEN', { openFlags });
    await client.writeFile({ path: fuse.backing('f'), data: pattern(2 * PAGE) });
    const fd = await client.open({ path: fuse.file('f'), flags });
    const read = { fd, count: PAGE, offset: 0 };
    t.is(await client.errno.pread({ ...read, nowhere: true }), 'EFAULT', `${way}: a read`);
    const write = { fd, data: pattern(PAGE, 3), offset: 0 };
    t.is(await client.errno.pwrite({ ...write, nowhere: true }), 'EFAULT', `${way}: a write`);
    t.deepEqual(await fuse.dataRequests(), [], way);
    t.is(firstDifference(await client.pread(read), pattern(PAGE)), undefined, `${way}: the file works on`);
    await client.close({ fd });
  }
});
