import { concat, firstDifference, pattern } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import { ATTR, ATTR_OUT, ENTRY, u32, u64 } from '../lib/entry-answer.ts';
import { OpenFlag } from '../lib/fuse-abi.ts';
import type { FuseMount, FuseOptions } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';
import { memoryThatEnds } from '../lib/memory-that-ends.ts';

/** Reads and writes that are not done in full: of memory that ends, of answers that are short, of nothing at all. */

const PAGE = 4096;
/** Longer than any test. Seconds. */
const LONG = 100_000;
/** The largest offset that there is, and where its page begins. */
const LAST = (1n << 63n) - 1n;
const LAST_PAGE = 2 ** 63 - PAGE;

interface Way {
  readonly openFlags: number;
  readonly flags: string;
  readonly options: FuseOptions;
}

const CACHED: Way = { openFlags: 0, flags: 'O_RDWR', options: { passthrough: 'off' } };
const WRITEBACK = { addFlags: ['WRITEBACK_CACHE'], dropFlags: ['PASSTHROUGH', 'PASSTHROUGH_FD'] } as const;

const WAYS: Readonly<Record<string, Way>> = {
  cached: CACHED,
  'with the writeback cache': { ...CACHED, options: { passthrough: 'off', init: WRITEBACK } },
  'with DIRECT_IO': { ...CACHED, openFlags: OpenFlag.DIRECT_IO },
  'with O_DIRECT': { ...CACHED, flags: 'O_RDWR|O_DIRECT' },
  'with O_DIRECT and ASYNC_DIO': {
    ...CACHED,
    flags: 'O_RDWR|O_DIRECT',
    options: { passthrough: 'off', init: { addFlags: ['ASYNC_DIO'] } },
  },
};

async function open(client: Client, fuse: FuseMount, way: Way, data: Uint8Array | string): Promise<number> {
  await client.writeFile({ path: fuse.backing('f'), data });
  await fuse.answerOpen('OPEN', { openFlags: way.openFlags }, 1);
  return client.open({ path: fuse.file('f'), flags: way.flags });
}

for (const [how, way] of Object.entries(WAYS)) {
  guestTest(`what memory there is is written and read ${how}, and the count says so`, async (t, guest) => {
    await using fuse = await guest.mountFuse(way.options);
    await using client = await guest.client();
    const old = pattern(3 * PAGE);
    const fd = await open(client, fuse, way, old);
    const map = await memoryThatEnds(client, pattern(PAGE, 7));
    const whole = { fd, map, offset: 0, length: 2 * PAGE };
    t.is(await client.writeFrom(whole), PAGE, 'a write');
    const nothing = { fd, map, offset: PAGE, length: PAGE };
    t.is(await client.errno.writeFrom(nothing), 'EFAULT', 'of no memory at all');
    await client.fsync({ fd });
    const sent = await fuse.requests('WRITE');
    t.true(sent.length > 0);
    for (const { args } of sent)
      t.true(Number(args['offset']) + Number(args['size']) <= PAGE, 'what is sent');
    const stored = await client.readFile({ path: fuse.backing('f') });
    const wanted = concat(pattern(PAGE, 7), old.subarray(PAGE));
    t.is(firstDifference(stored, wanted), undefined, 'what the server has');
    t.is(await client.readInto(whole), PAGE, 'a read, from where the write ended');
    t.is(await client.errno.readInto(nothing), 'EFAULT', 'into no memory at all');
    t.is(
      firstDifference(await client.mread({ map, offset: 0, length: PAGE }), old.subarray(PAGE, 2 * PAGE)),
      undefined,
      'what is read',
    );
    await client.munmap({ map });
    await client.close({ fd });
  });

  guestTest(`a write of nothing ${how} asks for nothing, wherever it is`, async (t, guest) => {
    await using fuse = await guest.mountFuse({ ...way.options, attrValidS: LONG });
    await using client = await guest.client();
    const fd = await open(client, fuse, way, 'contents');
    await client.chmod({ path: fuse.backing('f'), mode: 0o4755 });
    await client.fstat({ fd, flags: 'AT_STATX_FORCE_SYNC' });
    const after = await fuse.position();
    for (const offset of [0, 4, 8, 3 * PAGE]) {
      t.is(await client.pwrite({ fd, data: '', offset }), 0, `at ${offset}`);
    }
    const { size, mode } = await client.fstat({ fd });
    t.deepEqual([size, mode & 0o7777], [8, 0o4755]);
    const asked = { opcode: ['WRITE', 'SETATTR', 'GETXATTR', 'GETATTR'], after } as const;
    t.deepEqual(await fuse.opcodes(asked), [], 'nothing has changed, nor become outdated');
    await client.close({ fd });
  });
}

guestTest('what a short answer leaves of a direct write is written through the cache', async (t, guest) => {
  await using fuse = await guest.mountFuse({ passthrough: 'off' });
  await using client = await guest.client();
  const fd = await open(client, fuse, { ...CACHED, flags: 'O_RDWR|O_DIRECT' }, pattern(3 * PAGE));
  const data = pattern(2 * PAGE, 5);
  for (const [some, offset] of [
    [PAGE, 0],
    [512, 0],
    // Behind the end: nothing is cut off there, of which there is nothing.
    [0, 3 * PAGE],
  ] as const) {
    const after = await fuse.position();
    const body = concat(u32(some), u32(0));
    await fuse.rule({ match: { opcode: 'WRITE' }, times: 1, action: { do: 'body', body } });
    t.is(await client.pwrite({ fd, data, offset }), data.length, `after ${some} bytes: all is written`);
    const sent = await fuse.requests({ opcode: 'WRITE', after });
    const parts = sent.map(({ args }) => [args['offset'], args['size']]);
    t.deepEqual(parts[0], [offset, data.length], 'directly');
    t.is(parts[1]?.[0], offset + some, 'and the rest from there');
    const sizes = parts.slice(1).reduce((sum, [, size]) => sum + Number(size), 0);
    t.is(sizes, data.length - some, 'the rest');
    const stored = await client.readFile({ path: fuse.backing('f') });
    const rest = stored.subarray(offset + some, offset + data.length);
    t.is(firstDifference(rest, data.subarray(some)), undefined);
    t.deepEqual(await fuse.opcodes({ opcode: 'SETATTR', after }), [], `after ${some} bytes: no size is set`);
  }
  await client.close({ fd });
});

/** Answers to two READs of a page each, in the order of the answers: which of them, with how much. */
const ANSWERS: readonly { readonly of: readonly (readonly [0 | 1, number])[]; readonly gives: number }[] = [
  {
    of: [
      [0, 100],
      [1, 50],
    ],
    gives: 100,
  },
  {
    of: [
      [1, 50],
      [0, 100],
    ],
    gives: 100,
  },
  {
    of: [
      [1, 50],
      [0, PAGE],
    ],
    gives: PAGE + 50,
  },
  {
    of: [
      [0, 0],
      [1, PAGE],
    ],
    gives: 0,
  },
  {
    of: [
      [0, PAGE],
      [1, 0],
    ],
    gives: PAGE,
  },
];

guestTest(
  'of direct reads of one call that are sent at once what counts ends with the first short answer',
  async (t, guest) => {
    const init = { addFlags: ['ASYNC_DIO'] } as const;
    await using fuse = await guest.mountFuse({ passthrough: 'off', init, maxRead: PAGE });
    await using client = await guest.client();
    // By the server’s word as well: what is missing would be read into the cache.
    const way = { ...CACHED, openFlags: OpenFlag.DIRECT_IO, flags: 'O_RDWR|O_DIRECT' };
    const fd = await open(client, fuse, way, pattern(2 * PAGE));
    for (const { of, gives } of ANSWERS) {
      const hold = await fuse.hold('READ');
      const reading = client.aio({ operations: [{ op: 'pread', fd, count: 2 * PAGE, offset: 0 }] });
      reading.catch(() => undefined);
      const held = [await hold.arrived(), await hold.arrived()];
      held.sort((one, other) => Number(one.args['offset']) - Number(other.args['offset']));
      for (const [which, length] of of) {
        const body = pattern(2 * PAGE).subarray(which * PAGE, which * PAGE + length);
        const request = held[which];
        if (request !== undefined) await hold.release(request, { do: 'body', body });
      }
      await hold.stop();
      const [completed] = await reading;
      t.is(completed?.result, gives, JSON.stringify(of));
      const seen = completed?.data ?? new Uint8Array();
      t.is(firstDifference(seen, pattern(2 * PAGE).subarray(0, gives)), undefined, JSON.stringify(of));
    }
    await client.close({ fd });
  },
);

guestTest(
  'a short answer to a read does not make a file short of which the size is being changed',
  async (t, guest) => {
    const init = { dropFlags: ['AUTO_INVAL_DATA'] } as const;
    await using client = await guest.client();
    await using other = await guest.client();
    for (const changes of [true, false]) {
      await using fuse = await guest.mountFuse({
        passthrough: 'off',
        init,
        attrValidS: LONG,
        entryValidS: LONG,
      });
      const fd = await open(client, fuse, CACHED, pattern(2 * PAGE));
      const from = await other.open({ path: fuse.file('f'), flags: 'O_RDONLY' });
      await other.posix_fadvise({ fd: from, offset: 0, length: 0, advice: 'POSIX_FADV_RANDOM' });
      await fuse.rule({
        match: { opcode: 'READ' },
        times: 1,
        action: { do: 'body', body: pattern(100) },
      });
      const hold = await fuse.hold('FALLOCATE');
      const mode = changes ? '' : 'FALLOC_FL_KEEP_SIZE';
      const changing = client.fallocate({ fd, mode, offset: 0, length: PAGE });
      changing.catch(() => undefined);
      const request = await hold.arrived();
      await other.pread({ fd: from, count: 10, offset: PAGE });
      const { size } = await other.fstat({ fd: from, flags: 'AT_STATX_DONT_SYNC' });
      t.is(size, changes ? 2 * PAGE : PAGE + 100, changes ? 'while it may change' : 'while it does not');
      await hold.stop();
      await hold.release(request);
      await changing;
      await other.close({ fd: from });
      await client.close({ fd });
    }
  },
);

guestTest(
  'the last page that a file can have is read but for the byte behind all offsets',
  async (t, guest) => {
    const init = { dropFlags: ['AUTO_INVAL_DATA'] } as const;
    await using fuse = await guest.mountFuse({ passthrough: 'off', init, attrValidS: LONG });
    await using client = await guest.client();
    const size = u64(LAST);
    await fuse.rule({
      match: { opcode: 'LOOKUP', path: '/f' },
      action: { do: 'patch', at: ENTRY.attr + ATTR.size, bytes: size },
    });
    await fuse.rule({
      match: { opcode: 'GETATTR', path: '/f' },
      action: { do: 'patch', at: ATTR_OUT.attr + ATTR.size, bytes: size },
    });
    const fd = await open(client, fuse, { ...CACHED, flags: 'O_RDONLY' }, '');
    const body = pattern(PAGE - 1, 3);
    await fuse.rule({ match: { opcode: 'READ' }, action: { do: 'body', body } });
    // Read once ahead, and once for the page that did not come.
    await fuse.fail('READ', 'EIO', 1);
    const seen = await client.pread({ fd, count: PAGE - 1, offset: LAST_PAGE });
    t.is(firstDifference(seen, body), undefined);
    const sizes = (await fuse.requests('READ')).map(({ args }) => args['size']);
    t.deepEqual(sizes, [PAGE - 1, PAGE - 1]);
    await client.close({ fd });
  },
);
