import { bytes, concat, text } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import { u32, u64 } from '../lib/entry-answer.ts';
import { OpenFlag } from '../lib/fuse-abi.ts';
import type { FuseMount } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';

/** How much of the page cache FUSE_NOTIFY_RETRIEVE gives back to the server. */

const PAGE = 4096;
const LONG = 100_000;
const PAGES = 6;

interface Cached {
  readonly fuse: FuseMount;
  readonly fd: number;
  /** Asks for a range. @returns where what comes begins, and how much it is; or the errno. */
  readonly retrieve: (offset: number, size: number) => Promise<string | readonly [unknown, unknown]>;
}

/** A file whose first `pages` pages are in the cache. */
async function cached(
  guest: TestGuest,
  stack: AsyncDisposableStack,
  {
    client,
    pages,
    maxPages = 32,
    size = PAGES * PAGE,
  }: {
    readonly client: Client;
    readonly pages: number;
    readonly maxPages?: number;
    /** Of the file. Bytes. */
    readonly size?: number;
  },
): Promise<Cached> {
  const init = {
    maxPages,
    maxWrite: 64 * PAGE,
    addFlags: ['MAX_PAGES'],
    dropFlags: ['AUTO_INVAL_DATA'],
  } as const;
  const how = { passthrough: 'off', init, attrValidS: LONG, entryValidS: LONG } as const;
  const fuse = stack.use(await guest.mountFuse(how));
  await fuse.answerOpen('OPEN', { openFlags: OpenFlag.KEEP_CACHE });
  await client.writeFile({ path: fuse.backing('f'), data: new Uint8Array(PAGES * PAGE).fill(0x6f) });
  await client.truncate({ path: fuse.backing('f'), length: size });
  const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDONLY' });
  await client.posix_fadvise({ fd, offset: 0, length: 0, advice: 'POSIX_FADV_RANDOM' });
  await client.fstat({ fd });
  if (pages > 0) await client.pread({ fd, count: pages * PAGE, offset: 0 });
  const nodeid = BigInt(await fuse.nodeid('/f'));
  return {
    fuse,
    fd,
    retrieve: async (offset, size) => {
      const after = await fuse.position();
      const body = concat(u64(7n), u64(nodeid), u64(BigInt(offset)), u32(size), u32(0));
      const errno = await fuse.notify({ code: 'RETRIEVE', body });
      if (errno !== 'ok') return errno;
      const { args } = await fuse.waitFor({ opcode: 'NOTIFY_REPLY', after }, 'arrived');
      return [args['offset'], args['size']];
    },
  };
}

guestTest('beyond the end of a file there is nothing to retrieve, and up to it all', async (t, guest) => {
  await using stack = new AsyncDisposableStack();
  await using client = await guest.client();
  const { fd, retrieve } = await cached(guest, stack, { client, pages: PAGES });
  const end = PAGES * PAGE;
  for (const [offset, size, given] of [
    [end - 10, 100, 10],
    [end, 100, 0],
    [end + 1, 100, 0],
    [end + PAGE, PAGE, 0],
    [2 ** 40, PAGE, 0],
    [0, end, end],
    [0, end + 1, end],
    [100, 0, 0],
  ] as const) {
    t.deepEqual(await retrieve(offset, size), [offset, given], `${size} bytes from ${offset}`);
  }
  await client.close({ fd });
});

guestTest('no more pages are retrieved at once than max_pages', async (t, guest) => {
  await using stack = new AsyncDisposableStack();
  await using client = await guest.client();
  const { fd, retrieve } = await cached(guest, stack, { client, pages: PAGES, maxPages: 2 });
  for (const [offset, size, given] of [
    [0, 2 * PAGE, 2 * PAGE],
    [0, 4 * PAGE, 2 * PAGE],
    [100, 2 * PAGE, 2 * PAGE - 100],
    [PAGE - 1, PAGE + 1, PAGE + 1],
    [PAGE - 1, PAGE + 2, PAGE + 1],
  ] as const) {
    t.deepEqual(await retrieve(offset, size), [offset, given], `${size} bytes from ${offset}`);
  }
  await client.close({ fd });
});

guestTest('a page of which the server has stored only a part is not retrieved', async (t, guest) => {
  await using stack = new AsyncDisposableStack();
  await using client = await guest.client();
  const { fuse, fd, retrieve } = await cached(guest, stack, { client, pages: 1 });
  t.is(await fuse.notify({ store: '/f', offset: PAGE + 100, data: new Uint8Array(50) }), 'ok');
  t.deepEqual(await retrieve(PAGE, PAGE), [PAGE, 0], 'the page itself');
  t.deepEqual(await retrieve(0, 2 * PAGE), [0, PAGE], 'the page before it');
  t.is(await fuse.notify({ store: '/f', offset: PAGE, data: new Uint8Array(PAGE) }), 'ok');
  t.deepEqual(await retrieve(0, 2 * PAGE), [0, 2 * PAGE], 'once all of it was stored');
  await client.close({ fd });
});

guestTest('nothing is retrieved over a connection that was aborted', async (t, guest) => {
  await using stack = new AsyncDisposableStack();
  await using client = await guest.client();
  const { fuse, fd, retrieve } = await cached(guest, stack, { client, pages: PAGES });
  const map = await client.mmap({ fd, length: PAGES * PAGE, prot: 'PROT_READ', flags: 'MAP_SHARED' });
  const resident = async (): Promise<number[]> => [...(await client.mincore({ map }))];
  const all = (value: number): number[] => Array.from({ length: PAGES }, () => value);
  t.deepEqual(await retrieve(0, PAGE), [0, PAGE]);
  await fuse.abort();
  for (const time of ['once', 'twice']) t.is(await retrieve(PAGE, 2 * PAGE), 'ENOTCONN', time);
  t.is(await fuse.waiting(), 0);
  t.deepEqual(await resident(), all(1), 'what is in the cache');
  // A page that somebody still holds would stay.
  await client.posix_fadvise({ fd, offset: 0, length: 0, advice: 'POSIX_FADV_DONTNEED' });
  t.deepEqual(await resident(), all(0), 'pages that were to be sent are given back when they cannot be');
  await client.munmap({ map });
  await client.errno.close({ fd });
  t.is(await fuse.unmount(), 'ok');
});

const GIB = 2 ** 30;

guestTest('pages beyond 4 GiB are stored, retrieved and forgotten where they are', async (t, guest) => {
  await using stack = new AsyncDisposableStack();
  await using client = await guest.client();
  const { fuse, fd, retrieve } = await cached(guest, stack, { client, pages: 1, size: 6 * GIB });
  /** What is read there, and whether the server was asked for it. */
  const read = async (offset: number): Promise<readonly [string, number]> => {
    const after = await fuse.position();
    const data = await client.pread({ fd, count: 6, offset });
    return [text(data), (await fuse.requests({ opcode: 'READ', after })).length];
  };
  // The same but for the upper half of the offset.
  const [near, far] = [GIB, 5 * GIB];
  const stored = new Uint8Array(PAGE);
  stored.set(bytes('stored'));
  t.is(await fuse.notify({ store: '/f', offset: far, data: stored }), 'ok');
  t.deepEqual(await retrieve(near, PAGE), [near, 0], 'nothing was stored 4 GiB before');
  t.deepEqual(await retrieve(far, PAGE), [far, PAGE], 'it is retrieved from where it was stored');
  t.deepEqual(await read(far), ['stored', 0], 'and read there');
  t.deepEqual(await read(near), ['\0'.repeat(6), 1], '4 GiB before is what the server has');
  t.is(await fuse.notify({ inode: '/f', offset: far, length: PAGE }), 'ok');
  t.deepEqual(await read(near), ['\0'.repeat(6), 0], 'which stays when the other page is forgotten');
  t.deepEqual(await read(far), ['\0'.repeat(6), 1], 'and that one is asked for');
  await client.close({ fd });
});
