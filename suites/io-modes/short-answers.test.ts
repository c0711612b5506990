import { firstDifference, text } from '../lib/bytes.ts';
import { guestTest } from '../lib/guest-test.ts';
import { mountWritebackCache } from '../lib/writeback-cache.ts';

const PAGE = 4096;
/** Longer than any test. Seconds. */
const LONG = 100_000;

guestTest(
  'behind a short answer to a read the page is zeros, whatever was in it before',
  async (t, guest) => {
    const init = { dropFlags: ['AUTO_INVAL_DATA'] } as const;
    await using fuse = await guest.mountFuse({
      passthrough: 'off',
      attrValidS: LONG,
      entryValidS: LONG,
      init,
    });
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 's'.repeat(100) });
    const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDONLY' });
    // A part of a page: it is in the cache, but has to be read before anybody sees it.
    const data = new Uint8Array(100).fill(0x6e);
    t.is(await fuse.notify({ store: '/f', offset: 200, data }), 'ok');
    const seen = await client.pread({ fd, count: 300, offset: 0 });
    t.is(text(seen), 's'.repeat(100), 'the server has no more than that');
    const map = await client.mmap({ fd, length: PAGE, prot: 'PROT_READ', flags: 'MAP_SHARED' });
    const rest = await client.mread({ map, offset: 100, length: PAGE - 100 });
    t.deepEqual(rest, new Uint8Array(PAGE - 100), 'the rest of the page');
    await client.munmap({ map });
    t.is((await fuse.requests('READ')).length, 1, 'one page, read once');
    await client.close({ fd });
  },
);

guestTest(
  'while a write makes a file longer a short answer to a read does not make it shorter',
  async (t, guest) => {
    const init = { dropFlags: ['AUTO_INVAL_DATA'] } as const;
    await using fuse = await guest.mountFuse({ passthrough: 'off', attrValidS: LONG, init });
    await using client = await guest.client();
    await using other = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'short' });
    const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
    const seen = await other.open({ path: fuse.file('f'), flags: 'O_RDONLY' });
    const size = async (): Promise<number> =>
      (await other.fstat({ fd: seen, flags: 'AT_STATX_DONT_SYNC' })).size;
    const hold = await fuse.hold('WRITE');
    // A whole page: of a part the page stays locked.
    const writing = client.pwrite({ fd, data: new Uint8Array(PAGE), offset: 2 * PAGE });
    writing.catch(() => undefined);
    const request = await hold.arrived();
    const takeBack = await fuse.rule({
      match: { opcode: 'READ' },
      action: { do: 'body', body: new Uint8Array(3).fill(0x6e) },
    });
    const data = await other.pread({ fd: seen, count: 5, offset: 0 });
    t.is(text(data), 'nnn\0\0', 'what the server does not have is zeros, up to the size');
    t.is(await size(), 5, 'the size that the kernel knows meanwhile');
    await takeBack();
    await hold.stop();
    await hold.release(request);
    t.is(await writing, PAGE);
    t.is(await size(), 3 * PAGE, 'the size after the write');
    for (const [who, each] of [
      [client, fd],
      [other, seen],
    ] as const)
      await who.close({ fd: each });
  },
);

guestTest(
  'pages that are read ahead and that the server does not have are zeros, whatever was in that memory',
  async (t, guest) => {
    // The kernel believes its own size: behind a short answer is a hole.
    await using fuse = await mountWritebackCache(guest);
    await using client = await guest.client();
    const pages = 8;
    await client.writeFile({ path: fuse.backing('f'), data: new Uint8Array(pages * PAGE).fill(0x66) });
    const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
    await client.fstat({ fd });
    await client.truncate({ path: fuse.backing('f'), length: 100 });
    // Memory that is likely to be had next.
    const memory = `${await guest.directory('tmpfs')}/memory`;
    await client.writeFile({ path: memory, data: new Uint8Array(512 * PAGE).fill(0x6d) });
    await client.unlink({ path: memory });
    const data = await client.pread({ fd, count: pages * PAGE, offset: 0 });
    const wanted = new Uint8Array(pages * PAGE);
    wanted.fill(0x66, 0, 100);
    t.is(firstDifference(data, wanted), undefined, 'what the server has, and zeros');
    t.true((await fuse.requests('READ')).length > 0);
    await client.close({ fd });
  },
);
