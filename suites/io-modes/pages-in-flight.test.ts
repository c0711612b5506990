import { concat, firstDifference, pattern } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import type { FuseMount } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';
import { beginWriteback, mountWritebackCache, pageOf, pagesWritten } from '../lib/writeback-cache.ts';

/** Pages on their way to the server (FUSE_WRITEBACK_CACHE): who waits for them, and what is sent of them next. */

const PAGE = 4096;
/** Longer than any test. Seconds. */
const LONG = 100_000;

/** A file of so many pages, open, of which nothing is in the cache. */
async function open(client: Client, fuse: FuseMount, pages: number, name = 'f'): Promise<number> {
  await client.writeFile({ path: fuse.backing(name), data: pattern(pages * PAGE) });
  return client.open({ path: fuse.file(name), flags: 'O_RDWR' });
}

guestTest(
  'pages before and behind one that is being written back are read, directly or not, and it is not',
  async (t, guest) => {
    await using fuse = await mountWritebackCache(guest);
    await using client = await guest.client();
    await using reader = await guest.client();
    const fd = await open(client, fuse, 12);
    const fds = {
      directly: await reader.open({ path: fuse.file('f'), flags: 'O_RDONLY|O_DIRECT' }),
      'into the cache': await reader.open({ path: fuse.file('f'), flags: 'O_RDONLY' }),
    };
    for (const cached of Object.values(fds)) {
      await reader.posix_fadvise({ fd: cached, offset: 0, length: 0, advice: 'POSIX_FADV_RANDOM' });
    }
    const hold = await fuse.hold('WRITE');
    for (const nth of [5, 6]) await client.pwrite({ fd, data: pageOf(nth), offset: nth * PAGE });
    await beginWriteback(client, fd);
    const write = await hold.arrived();
    t.is(write.args['offset'], 5 * PAGE);
    for (const [how, from] of Object.entries(fds)) {
      for (const nth of how === 'directly' ? [4, 7] : [3, 8]) {
        const seen = await reader.pread({ fd: from, count: PAGE, offset: nth * PAGE });
        const wanted = pattern(12 * PAGE).subarray(nth * PAGE, (nth + 1) * PAGE);
        t.is(firstDifference(seen, wanted), undefined, `page ${nth}, ${how}`);
      }
    }
    const after = await fuse.position();
    const waiting = reader.pread({ fd: fds.directly, count: PAGE, offset: 6 * PAGE });
    waiting.catch(() => undefined);
    // A request that is sent now comes after one that would not wait.
    await client.stat({ path: fuse.file('f') });
    t.deepEqual(await fuse.opcodes({ opcode: 'READ', after }), [], 'page 6 is waited for');
    await hold.stop();
    await hold.release(write);
    t.is(firstDifference(await waiting, pageOf(6)), undefined, 'page 6');
    for (const other of Object.values(fds)) await reader.close({ fd: other });
    await client.close({ fd });
  },
);

guestTest('a direct write waits for the pages of its range that are being written back', async (t, guest) => {
  await using fuse = await mountWritebackCache(guest);
  await using client = await guest.client();
  await using writer = await guest.client();
  const fd = await open(client, fuse, 2);
  const direct = await writer.open({ path: fuse.file('f'), flags: 'O_WRONLY|O_DIRECT' });
  const hold = await fuse.hold('WRITE');
  await client.pwrite({ fd, data: pageOf(1), offset: PAGE });
  await beginWriteback(client, fd);
  const first = await hold.arrived();
  const after = await fuse.position();
  const writing = writer.pwrite({ fd: direct, data: pageOf(2), offset: PAGE });
  writing.catch(() => undefined);
  // A request that is sent now comes after one that would not wait.
  await client.stat({ path: fuse.path });
  t.deepEqual(await fuse.opcodes({ opcode: 'WRITE', after }), []);
  await hold.stop();
  await hold.release(first);
  t.is(await writing, PAGE);
  const stored = await client.readFile({ path: fuse.backing('f') });
  t.is(firstDifference(stored.subarray(PAGE), pageOf(2)), undefined, 'the later one is what the server has');
  await writer.close({ fd: direct });
  await client.close({ fd });
});

guestTest(
  'pages before and behind others that are being written back are written back beside them',
  async (t, guest) => {
    await using fuse = await mountWritebackCache(guest);
    await using client = await guest.client();
    const fd = await open(client, fuse, 9);
    const hold = await fuse.hold('WRITE');
    const held = [];
    const after = await fuse.position();
    for (const nth of [4, 1, 7, 2, 6]) {
      await client.pwrite({ fd, data: pageOf(nth), offset: nth * PAGE });
      await beginWriteback(client, fd);
      held.push(await hold.arrived());
    }
    const each = [4, 1, 7, 2, 6].map((nth) => [nth, 1]);
    t.deepEqual(await pagesWritten(fuse, after), each, 'none waits for another');
    await hold.stop();
    for (const request of held) await hold.release(request);
    await client.fsync({ fd });
    const wanted = pattern(9 * PAGE);
    for (const nth of [4, 1, 7, 2, 6]) wanted.set(pageOf(nth), nth * PAGE);
    t.is(firstDifference(await client.readFile({ path: fuse.backing('f') }), wanted), undefined);
    await client.close({ fd });
  },
);

guestTest(
  'what a truncation has cut off is not written back after it, and of its last page what is left',
  async (t, guest) => {
    for (const left of [100, PAGE, 2 * PAGE]) {
      await using fuse = await mountWritebackCache(guest);
      await using client = await guest.client();
      await using other = await guest.client();
      const fd = await open(client, fuse, 6);
      const again = await other.open({ path: fuse.file('f'), flags: 'O_RDWR' });
      for (const nth of [0, 2, 5]) await client.pwrite({ fd, data: pageOf(7), offset: nth * PAGE });
      const after = await fuse.position();
      const hold = await fuse.hold('SETATTR');
      const cutting = client.ftruncate({ fd, length: left });
      cutting.catch(() => undefined);
      const request = await hold.arrived();
      await beginWriteback(other, again);
      t.deepEqual(await fuse.opcodes({ opcode: 'WRITE', after }), [], 'nothing is sent before the answer');
      await hold.stop();
      await hold.release(request);
      await cutting;
      await client.fsync({ fd });
      const sent = await fuse.requests({ opcode: 'WRITE', after });
      const sizes = sent.map(({ args }) => [args['offset'], args['size']]);
      t.deepEqual(sizes, [[0, Math.min(left, PAGE)]], `${left} bytes are left`);
      const stored = await client.readFile({ path: fuse.backing('f') });
      const rest = pattern(2 * PAGE).subarray(Math.min(left, PAGE), left);
      const wanted = concat(pageOf(7).subarray(0, left), rest);
      t.is(firstDifference(stored, wanted), undefined, `${left} bytes are left: what the server has`);
      await other.close({ fd: again });
      await client.close({ fd });
    }
  },
);

guestTest('no more pages than max_pages are sent in one WRITE, written back or through', async (t, guest) => {
  await using client = await guest.client();
  const init = { maxPages: 2, maxWrite: 64 * PAGE } as const;
  for (const [how, addFlags] of [
    ['back', ['WRITEBACK_CACHE']],
    ['through', []],
  ] as const) {
    await using fuse = await mountWritebackCache(guest, { init: { ...init, addFlags } });
    const fd = await open(client, fuse, 0);
    const after = await fuse.position();
    const data = pattern(9 * PAGE, 5);
    t.is(await client.pwrite({ fd, data, offset: 0 }), data.length, how);
    await client.fsync({ fd });
    const sizes = (await pagesWritten(fuse, after)).map(([, pages]) => pages);
    t.true(Math.max(...sizes) <= 2, `${how}: ${sizes.join()} pages`);
    if (how === 'through') t.deepEqual(sizes, [2, 2, 2, 2, 1], 'as many as there may be');
    t.is(firstDifference(await client.readFile({ path: fuse.backing('f') }), data), undefined, how);
    await client.close({ fd });
  }
});

guestTest(
  'with as many requests under way as make congestion nothing more is written back unless somebody waits for it',
  async (t, guest) => {
    await using fuse = await mountWritebackCache(guest, { init: { congestionThreshold: 1 } });
    await using client = await guest.client();
    const [busy, fd] = [await open(client, fuse, 1, 'busy'), await open(client, fuse, 1)];
    const hold = await fuse.hold({ opcode: 'WRITE', path: '/busy' });
    await client.pwrite({ fd: busy, data: pageOf(1), offset: 0 });
    await beginWriteback(client, busy);
    const write = await hold.arrived();
    const after = await fuse.position();
    await client.pwrite({ fd, data: pageOf(2), offset: 0 });
    await beginWriteback(client, fd);
    // A request that is sent now comes after one that would have been.
    await client.stat({ path: fuse.path });
    t.deepEqual(await fuse.opcodes({ opcode: 'WRITE', after }), [], 'nobody waits');
    await client.fsync({ fd });
    t.deepEqual(await pagesWritten(fuse, after), [[0, 1]], 'fsync does');
    await hold.stop();
    await hold.release(write);
    await client.fsync({ fd: busy });
    await client.pwrite({ fd, data: pageOf(3), offset: 0 });
    const later = await fuse.position();
    await beginWriteback(client, fd);
    await fuse.waitFor({ opcode: 'WRITE', after: later });
    t.pass('without congestion it is');
    await client.close({ fd });
    await client.close({ fd: busy });
  },
);

guestTest(
  'with as many requests under way as make congestion a reader gets what it asks for in one request',
  async (t, guest) => {
    const init = { congestionThreshold: 1 } as const;
    await using fuse = await guest.mountFuse({ passthrough: 'off', init, attrValidS: LONG });
    await using client = await guest.client();
    await using other = await guest.client();
    const [busy, fd] = [await open(other, fuse, 1, 'busy'), await open(client, fuse, 64)];
    const hold = await fuse.hold({ opcode: 'READ', path: '/busy' });
    const reading = other.pread({ fd: busy, count: PAGE, offset: 0 });
    reading.catch(() => undefined);
    const request = await hold.arrived();
    const after = await fuse.position();
    const seen = await client.pread({ fd, count: 4 * PAGE, offset: 0 });
    t.is(firstDifference(seen, pattern(64 * PAGE).subarray(0, 4 * PAGE)), undefined);
    const [first] = await fuse.requests({ opcode: 'READ', after });
    t.is(first?.args['offset'], 0);
    t.true(Number(first?.args['size']) >= 4 * PAGE, `${String(first?.args['size'])} bytes`);
    await hold.stop();
    await hold.release(request);
    await reading;
    await other.close({ fd: busy });
    await client.close({ fd });
  },
);

guestTest(
  'pages that nobody has asked for are not read ahead while there is congestion',
  async (t, guest) => {
    await using client = await guest.client();
    await using other = await guest.client();
    for (const congested of [true, false]) {
      const init = { congestionThreshold: 1, dropFlags: ['AUTO_INVAL_DATA'] } as const;
      await using fuse = await guest.mountFuse({ passthrough: 'off', init, attrValidS: LONG });
      const [busy, fd] = [await open(other, fuse, 1, 'busy'), await open(client, fuse, 64)];
      await client.pread({ fd, count: 4 * PAGE, offset: 0 });
      const read = await fuse.requests('READ');
      const end = Math.max(...read.map(({ args }) => Number(args['offset']) + Number(args['size'])));
      t.true(end > 4 * PAGE, 'some is read ahead');
      const hold = await fuse.hold({ opcode: 'READ', path: '/busy' });
      const reading = congested ? other.pread({ fd: busy, count: PAGE, offset: 0 }) : undefined;
      reading?.catch(() => undefined);
      const request = congested ? await hold.arrived() : undefined;
      const after = await fuse.position();
      // In the cache, and where the kernel means to read on when somebody gets there.
      const seen = await client.pread({ fd, count: PAGE, offset: 4 * PAGE });
      t.is(firstDifference(seen, pattern(64 * PAGE).subarray(4 * PAGE, 5 * PAGE)), undefined);
      const [ahead] = await fuse.requests({ opcode: 'READ', after });
      const what = congested ? 'with another request under way' : 'with none';
      t.is(ahead?.args['offset'], congested ? undefined : end, `${what}: where is read ahead`);
      await hold.stop();
      if (request !== undefined) await hold.release(request);
      await reading;
      await other.close({ fd: busy });
      await client.close({ fd });
    }
  },
);
