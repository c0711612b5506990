import { text } from '../lib/bytes.ts';
import { OpenFlag } from '../lib/fuse-abi.ts';
import type { Client } from '../lib/client.ts';
import type { FuseMount } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';
import { needsMappings, openWithId } from '../lib/registration.ts';

/** The 2021 series lets every open of an inode have its own way, and none looks at the others. */
function needsFreeMixing(guest: TestGuest): void {
  guest.needs(!guest.expected.hasIoModes, 'mixing: cached and passthrough opens of one file are kept apart');
}

const PAGE = 4096;
const SHARED = { length: PAGE, prot: 'PROT_READ|PROT_WRITE', flags: 'MAP_SHARED' } as const;

async function openPassthrough(guest: TestGuest, client: Client, fuse: FuseMount): Promise<number> {
  const from = { path: fuse.backing('f'), flags: 'O_RDWR' };
  return openWithId(guest, client, { fuse, id: await fuse.server.registerBacking(from) });
}

async function openAnswered(client: Client, fuse: FuseMount, openFlags: number): Promise<number> {
  await fuse.answerOpen('OPEN', { openFlags, backingId: 0 }, 1);
  return client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
}

const OTHERS = { cached: 0, 'kept in cache': OpenFlag.KEEP_CACHE, direct: OpenFlag.DIRECT_IO } as const;

for (const [name, openFlags] of Object.entries(OTHERS)) {
  guestTest(`an open that is ${name} stands beside a passthrough one, in either order`, async (t, guest) => {
    needsFreeMixing(guest);
    await using fuse = await guest.mountFuse({ passthrough: 'off' });
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
    const before = await openAnswered(client, fuse, openFlags);
    const passthrough = await openPassthrough(guest, client, fuse);
    const after = await openAnswered(client, fuse, openFlags);

    const seq = await fuse.position();
    t.is(text(await client.pread({ fd: passthrough, count: 100, offset: 0 })), 'contents');
    await client.pwrite({ fd: passthrough, data: 'past', offset: 0 });
    t.deepEqual(await fuse.opcodes({ opcode: ['READ', 'WRITE'], after: seq }), [], 'past the server');
    await client.pwrite({ fd: before, data: 'THROUGH!', offset: 0 });
    await client.pwrite({ fd: after, data: 't', offset: 0 });
    const seen = await fuse.opcodes({ opcode: 'WRITE', after: seq });
    t.is(seen.length, 2, 'and through it, as each was opened');
    t.is(text(await client.pread({ fd: passthrough, count: 100, offset: 0 })), 'tHROUGH!');
    for (const fd of [before, passthrough, after]) await client.close({ fd });
    t.is(text(await client.readFile({ path: fuse.backing('f') })), 'tHROUGH!');
  });
}

guestTest('pages in the cache of FUSE are neither used nor renewed by passthrough', async (t, guest) => {
  needsFreeMixing(guest);
  await using fuse = await guest.mountFuse({ passthrough: 'off', attrValidS: 3600 });
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'old' });
  const cached = await openAnswered(client, fuse, OpenFlag.KEEP_CACHE);
  const passthrough = await openPassthrough(guest, client, fuse);
  // Filled after that open, which has emptied the cache as any open without KEEP_CACHE does.
  t.is(text(await client.pread({ fd: cached, count: 3, offset: 0 })), 'old');
  await client.pwrite({ fd: passthrough, data: 'new', offset: 0 });
  t.is(text(await client.pread({ fd: passthrough, count: 3, offset: 0 })), 'new');
  t.is(text(await client.pread({ fd: cached, count: 3, offset: 0 })), 'old', 'the page from before');
  await client.close({ fd: cached });
  const anew = await openAnswered(client, fuse, 0);
  t.is(text(await client.pread({ fd: anew, count: 3, offset: 0 })), 'new', 'an open without KEEP_CACHE');
  for (const fd of [passthrough, anew]) await client.close({ fd });
});

guestTest('a passthrough mapping beside a cached one: each shows its own file', async (t, guest) => {
  needsFreeMixing(guest);
  needsMappings(guest);
  await using fuse = await guest.mountFuse({ passthrough: 'off' });
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
  const cached = await openAnswered(client, fuse, 0);
  const passthrough = await openPassthrough(guest, client, fuse);
  const lower = await client.mmap({ fd: passthrough, ...SHARED });
  const upper = await client.mmap({ fd: cached, ...SHARED });
  t.is(text(await client.mread({ map: upper, offset: 0, length: 8 })), 'contents');
  await client.mwrite({ map: lower, offset: 0, data: 'LOWER' });
  t.is(text(await client.readFile({ path: fuse.backing('f') })), 'LOWERnts');
  t.is(text(await client.mread({ map: upper, offset: 0, length: 8 })), 'contents', 'the cache of FUSE');
  for (const map of [lower, upper]) await client.munmap({ map });
  for (const fd of [cached, passthrough]) await client.close({ fd });
});

/** Writes to cached files wait, and passthrough is there as well. */
const WRITEBACK = { passthrough: 'off', init: { addFlags: ['WRITEBACK_CACHE'] } } as const;

guestTest(
  'passthrough reads see what waits in the writeback cache once it is written back',
  async (t, guest) => {
    needsFreeMixing(guest);
    await using fuse = await guest.mountFuse(WRITEBACK);
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'on disk' });
    const cached = await openAnswered(client, fuse, 0);
    const passthrough = await openPassthrough(guest, client, fuse);
    await client.pwrite({ fd: cached, data: 'waiting', offset: 0 });
    t.is(text(await client.pread({ fd: passthrough, count: 7, offset: 0 })), 'on disk');
    await client.fsync({ fd: cached });
    t.is(text(await client.pread({ fd: passthrough, count: 7, offset: 0 })), 'waiting');
    for (const fd of [cached, passthrough]) await client.close({ fd });
  },
);

guestTest(
  'with the writeback cache a passthrough write does not cut off what waits in it',
  async (t, guest) => {
    needsFreeMixing(guest);
    await using fuse = await guest.mountFuse(WRITEBACK);
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'short' });
    const cached = await openAnswered(client, fuse, 0);
    const passthrough = await openPassthrough(guest, client, fuse);
    await client.pwrite({ fd: cached, data: 'beyond', offset: PAGE });
    await client.pwrite({ fd: passthrough, data: 'SHORT', offset: 0 });
    t.is((await client.fstat({ fd: cached })).size, PAGE + 6);
    await client.fsync({ fd: cached });
    for (const fd of [cached, passthrough]) await client.close({ fd });
    const seen = await client.readFile({ path: fuse.backing('f') });
    t.is(seen.length, PAGE + 6);
    t.is(text(seen.subarray(PAGE)), 'beyond');
  },
);

guestTest(
  'with the writeback cache a passthrough write behind the end makes the file longer',
  async (t, guest) => {
    needsFreeMixing(guest);
    await using fuse = await guest.mountFuse(WRITEBACK);
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'short' });
    const fd = await openPassthrough(guest, client, fuse);
    await client.pwrite({ fd, data: 'beyond', offset: PAGE });
    // The size is the kernel’s own then: what the server says of it does not count.
    t.is((await client.fstat({ fd, flags: 'AT_STATX_DONT_SYNC' })).size, PAGE + 6, 'before anybody is asked');
    t.is((await client.fstat({ fd })).size, PAGE + 6, 'afterwards');
    await client.close({ fd });
    t.deepEqual(await fuse.dataRequests(), []);
  },
);
