import { firstDifference, pattern } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import { compareSequence, type FreshPlaces } from '../lib/differential/compare-files.ts';
import { generate } from '../lib/differential/generate.ts';
import { ATTR, ATTR_OUT, u64 } from '../lib/entry-answer.ts';
import { OpenFlag } from '../lib/fuse-abi.ts';
import type { FuseMount } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';
import { mountWritebackCache } from '../lib/writeback-cache.ts';

/** Files whose writes wait in the page cache of FUSE (FUSE_WRITEBACK_CACHE): what is sent of them, and when. */

const PAGE = 4096;
/** The same sequence in every run; another one with FUSEGATE_SEED. */
const SEED = Number(process.env['FUSEGATE_SEED'] ?? 20_210_119);
const LONG_AGO_NS = 1_500_000_000_000_000_000;
const HOUR_S = 3600;
/** include/uapi/linux/fuse.h */
const WRITE_KILL_SUIDGID = 1 << 2;
/** `FUSE_WRITE_CACHE`: the pages are those of the cache, and nobody's in particular. */
const WRITE_CACHE = 1 << 0;

/** A new file, open, of which nothing is in the cache. */
async function open(client: Client, fuse: FuseMount, data: Uint8Array | string = ''): Promise<number> {
  await client.writeFile({ path: fuse.backing('f'), data });
  return client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
}

/** Offset and size of each WRITE, by offset: what is sent at the same time has no order. */
async function writes(fuse: FuseMount, after: number): Promise<[number, number][]> {
  const requests = await fuse.requests({ opcode: 'WRITE', after });
  return requests
    .map(({ args }): [number, number] => [Number(args['offset']), Number(args['size'])])
    .sort(([one], [other]) => one - other);
}

guestTest(
  'a random sequence of calls gives in the writeback cache what it gives on ext4, and the same is written back',
  async (t, guest) => {
    await using fuse = await mountWritebackCache(guest);
    await using client = await guest.client({ callMs: 20_000 });
    // `behind` is one more descriptor of the mount: what goes past the cache it cannot know.
    const places: FreshPlaces = (round) => {
      const [seen, native] = [fuse.file(`fuse-${round}`), fuse.backing(`native-${round}`)];
      return [
        { name: 'writeback cache', path: seen, behind: seen, direct: false },
        { name: 'native', path: native, behind: native, direct: true },
      ];
    };
    const operations = generate({ seed: SEED, count: 100, maps: true });
    t.log(`FUSEGATE_SEED=${SEED}`);
    const found = await compareSequence(client, places, { operations, maps: true, seed: SEED });
    t.is(found?.text, undefined, found?.text);
    const [stored, native] = [fuse.backing('fuse-0'), fuse.backing('native-0')];
    t.is(
      firstDifference(await client.readFile({ path: stored }), await client.readFile({ path: native })),
      undefined,
      'what the server has',
    );
  },
);

guestTest(
  'pages are written back up to max_write at a time, and only those that were written',
  async (t, guest) => {
    await using fuse = await mountWritebackCache(guest, { init: { maxWrite: 2 * PAGE } });
    await using client = await guest.client();
    const fd = await open(client, fuse);
    const after = await fuse.position();
    const [first, last] = [pattern(5 * PAGE), pattern(2 * PAGE, 3)];
    await client.pwrite({ fd, data: first, offset: 0 });
    await client.pwrite({ fd, data: last, offset: 7 * PAGE });
    await client.fsync({ fd });
    const wanted = new Uint8Array(9 * PAGE);
    wanted.set(first);
    wanted.set(last, 7 * PAGE);
    t.is(
      firstDifference(await client.readFile({ path: fuse.backing('f') }), wanted),
      undefined,
      'what the server has',
    );
    // When the kernel begins with it, and so how many it is, is its own business.
    const sent = await writes(fuse, after);
    t.true(Math.max(...sent.map(([, size]) => size)) <= 2 * PAGE, JSON.stringify(sent));
    const inTheHole = sent.filter(([offset, size]) => offset < 7 * PAGE && offset + size > 5 * PAGE);
    t.deepEqual(inTheHole, [], 'between them');
    await client.close({ fd });
  },
);

guestTest('what is written back says so, and what is written through does not', async (t, guest) => {
  const written = async (fuse: FuseMount): Promise<boolean[]> => {
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
    const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
    await client.pwrite({ fd, data: 'CON', offset: 0 });
    await client.close({ fd });
    const writes = await fuse.requests('WRITE');
    return [...new Set(writes.map(({ args }) => (Number(args['write_flags']) & WRITE_CACHE) !== 0))];
  };
  {
    await using fuse = await mountWritebackCache(guest);
    t.deepEqual(await written(fuse), [true], 'with the writeback cache');
  }
  await using fuse = await guest.mountFuse({ passthrough: 'off' });
  t.deepEqual(await written(fuse), [false], 'without');
});

guestTest('of the last page no more is written back than the file has', async (t, guest) => {
  await using fuse = await mountWritebackCache(guest);
  await using client = await guest.client();
  const fd = await open(client, fuse, pattern(100));
  const map = await client.mmap({ fd, length: PAGE, prot: 'PROT_READ|PROT_WRITE', flags: 'MAP_SHARED' });
  const after = await fuse.position();
  await client.mwrite({ map, offset: 50, data: new Uint8Array(200).fill(7) });
  await client.msync({ map, flags: 'MS_SYNC' });
  // The kernel may begin on its own between two bytes of a store, and send the page twice.
  const sent = await writes(fuse, after);
  t.true(sent.length > 0, 'the page is written back');
  t.deepEqual(
    sent.filter(([offset, size]) => offset !== 0 || size !== 100),
    [],
    'what is sent is what the file has',
  );
  t.is((await client.stat({ path: fuse.backing('f') })).size, 100);
  await client.munmap({ map });
  await client.close({ fd });
});

guestTest('a write to part of a page keeps the rest of it, or makes it zeros', async (t, guest) => {
  await using fuse = await mountWritebackCache(guest);
  await using client = await guest.client();
  const old = pattern(2 * PAGE + 100);
  const fd = await open(client, fuse, old);
  await client.pwrite({ fd, data: 'NEW', offset: PAGE + 10 });
  await client.pwrite({ fd, data: 'END', offset: 4 * PAGE + 50 });
  await client.fsync({ fd });
  const wanted = new Uint8Array(4 * PAGE + 53);
  wanted.set(old);
  wanted.set(Buffer.from('NEW'), PAGE + 10);
  wanted.set(Buffer.from('END'), 4 * PAGE + 50);
  t.is(
    firstDifference(await client.readFile({ path: fuse.backing('f') }), wanted),
    undefined,
    'what the server has',
  );
  t.is(
    firstDifference(await client.readFile({ path: fuse.file('f') }), wanted),
    undefined,
    'what the cache has',
  );
  await client.truncate({ path: fuse.file('f'), length: 6 * PAGE });
  const seen = await client.readFile({ path: fuse.file('f') });
  t.is(
    firstDifference(seen.subarray(wanted.length), new Uint8Array(6 * PAGE - wanted.length)),
    undefined,
    'zeros',
  );
  await client.close({ fd });
});

guestTest('what cannot be written back is told by the next fsync, once', async (t, guest) => {
  await using fuse = await mountWritebackCache(guest);
  await using client = await guest.client();
  const fd = await open(client, fuse);
  await fuse.fail('WRITE', 'ENOSPC');
  await client.pwrite({ fd, data: 'lost', offset: 0 });
  t.is(await client.errno.fsync({ fd }), 'ENOSPC');
  t.is(await client.errno.fsync({ fd }), 'ok');
  await client.close({ fd });
});

guestTest('a store into a mapping changes the time that the kernel keeps of a file', async (t, guest) => {
  await using fuse = await mountWritebackCache(guest);
  await using client = await guest.client();
  const fd = await open(client, fuse, pattern(100));
  const path = fuse.file('f');
  await client.utimens({ path, atimeNs: LONG_AGO_NS, mtimeNs: LONG_AGO_NS });
  t.is((await client.stat({ path })).mtimeNs, LONG_AGO_NS);
  const map = await client.mmap({ fd, length: PAGE, prot: 'PROT_READ|PROT_WRITE', flags: 'MAP_SHARED' });
  await client.mread({ map, offset: 0, length: 1 });
  t.is((await client.stat({ path })).mtimeNs, LONG_AGO_NS, 'a load does not');
  await client.mwrite({ map, offset: 0, data: 'x' });
  const { mtimeNs } = await client.stat({ path });
  t.true(mtimeNs > LONG_AGO_NS, 'a store does');
  await client.munmap({ map });
  await client.fsync({ fd });
  await client.close({ fd });
  t.is((await client.stat({ path: fuse.backing('f') })).mtimeNs, mtimeNs, 'and the server is told of it');
});

guestTest('a direct read waits for the pages of its range that are being written back', async (t, guest) => {
  await using fuse = await mountWritebackCache(guest);
  await using client = await guest.client();
  await using reader = await guest.client();
  const fd = await open(client, fuse, pattern(PAGE));
  const direct = await reader.open({ path: fuse.file('f'), flags: 'O_RDONLY|O_DIRECT' });
  const hold = await fuse.hold('WRITE');
  const after = await fuse.position();
  await client.pwrite({ fd, data: new Uint8Array(PAGE).fill(7), offset: 0 });
  const synced = client.fsync({ fd });
  const write = await hold.arrived();
  const reading = reader.pread({ fd: direct, count: PAGE, offset: 0 });
  // A request that is sent now comes after a READ that would not wait.
  await client.stat({ path: fuse.file('f') });
  t.deepEqual(await fuse.opcodes({ opcode: 'READ', after }), []);
  await hold.release(write);
  t.is(firstDifference(await reading, new Uint8Array(PAGE).fill(7)), undefined);
  await synced;
  await hold.stop();
  await reader.close({ fd: direct });
  await client.close({ fd });
});

guestTest(
  'a truncation changes the time that the kernel keeps of a file, but truncate to the size it has does not',
  async (t, guest) => {
    await using fuse = await mountWritebackCache(guest);
    await using client = await guest.client();
    const fd = await open(client, fuse, pattern(100));
    const path = fuse.file('f');
    const cuts: Readonly<Record<string, readonly [() => Promise<unknown>, boolean]>> = {
      truncate: [() => client.truncate({ path, length: 50 }), true],
      'truncate to the same size': [() => client.truncate({ path, length: 50 }), false],
      'an open with O_TRUNC': [
        async () => client.close({ fd: await client.open({ path, flags: 'O_WRONLY|O_TRUNC' }) }),
        true,
      ],
    };
    for (const [what, [cut, changes]] of Object.entries(cuts)) {
      await client.utimens({ path, atimeNs: LONG_AGO_NS, mtimeNs: LONG_AGO_NS });
      await cut();
      const { mtimeNs } = await client.fstat({ fd });
      t.is(mtimeNs > LONG_AGO_NS, changes, `${what}: the mtime is another`);
    }
    await client.close({ fd });
  },
);

guestTest('after close the server is asked how many blocks a written file has', async (t, guest) => {
  await using fuse = await mountWritebackCache(guest, { attrValidS: HOUR_S });
  await using client = await guest.client();
  const fd = await open(client, fuse);
  t.is((await client.fstat({ fd })).blocks, 0, 'an empty file');
  await client.pwrite({ fd, data: pattern(16 * PAGE), offset: 0 });
  await client.close({ fd: await client.dup({ fd }) });
  const { blocks } = await client.fstat({ fd });
  t.true(blocks >= (16 * PAGE) / 512, `${blocks} blocks of 512 bytes hold 64 KiB`);
  await client.close({ fd });
});

guestTest('with the writeback cache FLUSH is sent although the server wants none', async (t, guest) => {
  await using fuse = await mountWritebackCache(guest);
  await using client = await guest.client();
  await fuse.answerOpen('OPEN', { openFlags: OpenFlag.NOFLUSH });
  await client.close({ fd: await open(client, fuse) });
  t.deepEqual(await fuse.opcodes('FLUSH'), ['FLUSH']);
});

guestTest(
  'a stranger’s write to a setuid file does not wait where the server clears the bit: it asks for that',
  async (t, guest) => {
    const init = { addFlags: ['WRITEBACK_CACHE', 'HANDLE_KILLPRIV_V2'] } as const;
    await using fuse = await mountWritebackCache(guest, { allowOther: true, init });
    await using client = await guest.client();
    const fd = await open(client, fuse, 'program');
    await client.chmod({ path: fuse.backing('f'), mode: 0o4755 });
    await client.setCredentials({ uid: 4000, gid: 4000 });
    const after = await fuse.position();
    await client.pwrite({ fd, data: 'new', offset: 0 });
    const sent = await fuse.requests({ opcode: 'WRITE', after });
    t.deepEqual(
      sent.map(({ args }) => Number(args['write_flags']) & WRITE_KILL_SUIDGID),
      [WRITE_KILL_SUIDGID],
    );
    await client.close({ fd });
  },
);

guestTest(
  'in the writeback cache a file is as long as the kernel knows, whatever an answer to chmod says',
  async (t, guest) => {
    await using fuse = await mountWritebackCache(guest, { attrValidS: HOUR_S, entryValidS: HOUR_S });
    await using client = await guest.client();
    const fd = await open(client, fuse, pattern(100));
    await client.pwrite({ fd, data: pattern(300), offset: 0 });
    const action = { do: 'patch', at: ATTR_OUT.attr + ATTR.size, bytes: u64(10n) } as const;
    await fuse.rule({ match: { opcode: 'SETATTR' }, action });
    await client.chmod({ path: fuse.file('f'), mode: 0o600 });
    const { size, mode } = await client.fstat({ fd });
    t.deepEqual({ size, mode: (mode & 0o777).toString(8) }, { size: 300, mode: '600' });
    t.is((await client.pread({ fd, count: 1000, offset: 0 })).length, 300);
    await client.close({ fd });
    t.is((await client.stat({ path: fuse.backing('f') })).size, 300, 'what the server has');
  },
);
