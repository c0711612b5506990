import { bytes, concat, firstDifference, pattern } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import type { RequestRecord } from '../lib/fuse-abi.ts';
import type { FuseMount } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';
import { whereItWaits } from '../lib/where-it-waits.ts';
import {
  beginWriteback,
  beingWritten,
  mountWritebackCache,
  pageOf,
  pagesWritten,
} from '../lib/writeback-cache.ts';

/** What waits in the writeback cache when a file is closed, unmapped, made longer or thrown out: when it is sent, and how. */

const PAGE = 4096;
/** include/uapi/linux/fuse.h */
const FATTR_SIZE = 1 << 3;
/** In the stack of a thread: for a page’s being written back, or for whoever has it locked and waits for that. */
const WAITS_FOR_A_PAGE = /fuse_wait_on_page_writeback|fuse_launder_folio|folio_wait_bit/;

async function open(client: Client, fuse: FuseMount, pages: number, name = 'f'): Promise<number> {
  await client.writeFile({ path: fuse.backing(name), data: pattern(pages * PAGE) });
  return client.open({ path: fuse.file(name), flags: 'O_RDWR' });
}

guestTest(
  'what a write brings into the cache while its file is closed is sent before RELEASE',
  async (t, guest) => {
    await using fuse = await mountWritebackCache(guest);
    await using client = await guest.client();
    const fd = await open(client, fuse, 1);
    const hold = await fuse.hold('READ');
    const after = await fuse.position();
    // Of a part of a page the rest is read first.
    const writing = client.pwrite({ fd, data: 'late', offset: 100 });
    writing.catch(() => undefined);
    const read = await hold.arrived();
    const closing = client.close({ fd });
    closing.catch(() => undefined);
    // What there was before has been written back when the close waits for the write; kernels may let it end at once.
    await whereItWaits(guest, client, { call: closing, at: /fuse_flush/ });
    await hold.stop();
    await hold.release(read);
    t.is(await writing, 4);
    await closing;
    await fuse.waitFor({ opcode: 'RELEASE', after });
    const sent = await fuse.opcodes({ opcode: ['WRITE', 'RELEASE'], after });
    t.deepEqual([...new Set(sent)], ['WRITE', 'RELEASE'], 'what is sent until the end of the open file');
    const wanted = concat(pattern(100), bytes('late'), pattern(PAGE).subarray(104));
    const stored = await client.readFile({ path: fuse.backing('f') });
    t.is(firstDifference(stored, wanted), undefined, 'what the server has');
  },
);

/** Ends of the use of a file of which a page waits, each with the requests that it sends. */
const ENDS: Readonly<
  Record<
    string,
    { readonly end: (client: Client, at: { fd: number; map: number }) => Promise<unknown>; sends: string[] }
  >
> = {
  close: {
    end: async (client, { fd }) => client.close({ fd: await client.dup({ fd }) }),
    sends: ['WRITE', 'FLUSH'],
  },
  munmap: { end: (client, { map }) => client.munmap({ map }), sends: ['WRITE'] },
};

for (const [what, { end, sends }] of Object.entries(ENDS)) {
  guestTest(
    `${what} sends what waits in the cache, however many requests are under way`,
    async (t, guest) => {
      const init = { maxBackground: 10, congestionThreshold: 1 } as const;
      await using fuse = await mountWritebackCache(guest, { init });
      await using client = await guest.client();
      const [busy, fd] = [await open(client, fuse, 1, 'busy'), await open(client, fuse, 1)];
      const map = await client.mmap({ fd, length: PAGE, prot: 'PROT_READ|PROT_WRITE', flags: 'MAP_SHARED' });
      await client.mwrite({ map, offset: 0, data: pageOf(1) });
      const hold = await fuse.hold({ opcode: 'WRITE', path: '/busy' });
      await client.pwrite({ fd: busy, data: pageOf(1), offset: 0 });
      await beginWriteback(client, busy);
      const held = await hold.arrived();
      const after = await fuse.position();
      // Nobody waits for this: while so many are under way nothing is sent by it.
      await beginWriteback(client, fd);
      await client.stat({ path: fuse.path });
      t.deepEqual(await fuse.opcodes({ opcode: 'WRITE', path: '/f', after }), [], 'the page waits');
      await end(client, { fd, map });
      // A request that is sent now comes after those of the end.
      await client.stat({ path: fuse.path });
      const sent = await fuse.opcodes({ opcode: ['WRITE', 'FLUSH'], path: '/f', after });
      t.deepEqual([...new Set(sent)], sends, `${what}: what it sends`);
      await hold.stop();
      await hold.release(held);
      for (const each of [busy, fd]) await client.close({ fd: each });
      const stored = await client.readFile({ path: fuse.backing('f') });
      t.is(firstDifference(stored, pageOf(1)), undefined, 'what the server has');
    },
  );
}

guestTest(
  'pages are written back by the latest of the opens for writing, and by an earlier one when that is closed',
  async (t, guest) => {
    await using fuse = await mountWritebackCache(guest);
    await using client = await guest.client();
    const fd = await open(client, fuse, 1);
    const later = await client.open({ path: fuse.file('f'), flags: 'O_WRONLY' });
    const [first, second] = (await fuse.requests('OPEN')).map(({ reply }) => reply?.open?.fh);
    t.not(first, second);
    const handle = async (): Promise<unknown[]> => {
      const after = await fuse.position();
      await client.pwrite({ fd, data: pageOf(1), offset: 0 });
      await client.fsync({ fd });
      const sent = await fuse.requests({ opcode: 'WRITE', after });
      return [...new Set(sent.map(({ args }) => args['fh']))];
    };
    t.deepEqual(await handle(), [second], 'the handle of WRITE while both are open');
    await client.close({ fd: later });
    await fuse.waitFor('RELEASE');
    t.deepEqual(await handle(), [first], 'the handle of WRITE when the later one is closed');
    await client.close({ fd });
  },
);

guestTest(
  'pages that waited for the end of a truncation are sent in the order in which they were to be',
  async (t, guest) => {
    await using fuse = await mountWritebackCache(guest);
    await using client = await guest.client();
    await using other = await guest.client();
    const fd = await open(client, fuse, 8);
    const again = await other.open({ path: fuse.file('f'), flags: 'O_RDWR' });
    for (const page of [0, 2, 4]) await client.pwrite({ fd, data: pageOf(7), offset: page * PAGE });
    const hold = await fuse.hold('SETATTR');
    // It cuts nothing off.
    const growing = client.ftruncate({ fd, length: 9 * PAGE });
    growing.catch(() => undefined);
    let request = await hold.arrived();
    // The kernel may tell the time of the writes before.
    while ((Number(request.args['valid']) & FATTR_SIZE) === 0) {
      await hold.release(request);
      request = await hold.arrived();
    }
    const after = await fuse.position();
    await beginWriteback(other, again);
    // A request that is sent now comes after one that would not wait.
    await other.stat({ path: fuse.path });
    t.deepEqual(await pagesWritten(fuse, after), [], 'none while it is under way');
    await hold.stop();
    await hold.release(request);
    await growing;
    await client.fsync({ fd });
    const inOrder = [0, 2, 4].map((page) => [page, 1]);
    t.deepEqual(await pagesWritten(fuse, after), inOrder, 'page and pages of each WRITE');
    await other.close({ fd: again });
    await client.close({ fd });
  },
);

/** A mapped page that is being written back, and reads into it that make it dirty once more when they are answered. */
async function inFlight(
  guest: TestGuest,
  names: readonly string[],
): Promise<{
  readonly fuse: FuseMount;
  readonly client: Client;
  readonly fd: number;
  readonly first: RequestRecord;
  readonly after: number;
  readonly letGo: () => Promise<void>;
  readonly makeDirty: (name: string) => Promise<void>;
}> {
  const fuse = await mountWritebackCache(guest);
  const client = await guest.client();
  const fd = await open(client, fuse, 1);
  const map = await client.mmap({ fd, length: PAGE, prot: 'PROT_READ|PROT_WRITE', flags: 'MAP_SHARED' });
  await client.mwrite({ map, offset: 0, data: pageOf(1) });
  const length = PAGE / names.length;
  const reads = await Promise.all(
    names.map(async (name, at) => {
      await client.writeFile({ path: fuse.backing(name), data: bytes(name.repeat(length)) });
      const hold = await fuse.hold({ opcode: 'READ', path: `/${name}` });
      const source = await client.open({ path: fuse.file(name), flags: 'O_RDONLY|O_DIRECT' });
      const reading = client.readInto({ fd: source, map, offset: at * length, length });
      reading.catch(() => undefined);
      return { name, hold, reading, request: await hold.arrived() };
    }),
  );
  const writes = await fuse.hold('WRITE');
  const after = await fuse.position();
  await beginWriteback(client, fd);
  const first = await writes.arrived();
  return {
    fuse,
    client,
    fd,
    first,
    after,
    letGo: async () => {
      await writes.stop();
      await writes.release(first);
    },
    makeDirty: async (which) => {
      const read = reads.find(({ name }) => name === which);
      if (read === undefined) throw new Error(`no read of ${which}`);
      await read.hold.stop();
      await read.hold.release(read.request);
      await read.reading;
    },
  };
}

guestTest(
  'a page that an open throws out of the cache is written after an earlier WRITE of it, not beside it',
  async (t, guest) => {
    const { fuse, client, fd, after, letGo, makeDirty } = await inFlight(guest, ['a']);
    await using _fuse = fuse;
    await using _client = client;
    await using other = await guest.client();
    await makeDirty('a');
    const opening = other.open({ path: fuse.file('f'), flags: 'O_RDONLY' });
    const where = await whereItWaits(guest, other, { call: opening, at: WAITS_FOR_A_PAGE });
    t.regex(where, WAITS_FOR_A_PAGE, 'the open waits');
    await client.stat({ path: fuse.path });
    t.deepEqual(await pagesWritten(fuse, after), [[0, 1]], 'one WRITE of the page at a time');
    await letGo();
    const reader = await opening;
    const both = [
      [0, 1],
      [0, 1],
    ];
    t.deepEqual(await pagesWritten(fuse, after), both, 'and then the page as it is by now');
    const stored = await client.readFile({ path: fuse.backing('f') });
    t.is(firstDifference(stored, bytes('a'.repeat(PAGE))), undefined, 'what the server has');
    await other.close({ fd: reader });
    await client.close({ fd });
  },
);

guestTest(
  'a page that is made dirty twice while it is written back waits as one page, and then as none',
  async (t, guest) => {
    t.is(await beingWritten(guest), '0', 'before');
    const { fuse, client, fd, after, letGo, makeDirty } = await inFlight(guest, ['a', 'b']);
    await using _fuse = fuse;
    await using _client = client;
    t.is(await beingWritten(guest), '4', 'KiB on their way to the server');
    for (const [name, time] of [
      ['a', 'once'],
      ['b', 'twice'],
    ] as const) {
      await makeDirty(name);
      await beginWriteback(client, fd);
      t.is(await beingWritten(guest), '8', `KiB on their way, and to be sent then: made dirty ${time}`);
    }
    await letGo();
    await client.fsync({ fd });
    t.is(await beingWritten(guest), '0', 'KiB on their way when all is written');
    t.deepEqual([...new Set((await pagesWritten(fuse, after)).map(String))], ['0,1'], 'the page alone');
    const stored = await client.readFile({ path: fuse.backing('f') });
    const wanted = bytes('a'.repeat(PAGE / 2) + 'b'.repeat(PAGE / 2));
    t.is(firstDifference(stored, wanted), undefined, 'what the server has');
    await client.close({ fd });
  },
);
