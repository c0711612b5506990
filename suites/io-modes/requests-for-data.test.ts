import { firstDifference, pattern, text } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import { FATTR_FH, OpenFlag } from '../lib/fuse-abi.ts';
import type { FuseMount, FuseOptions } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';
import { openFlagNames } from '../lib/open-flag-names.ts';

/** READ and WRITE as files get them that are not in passthrough mode, and what becomes of the answers. */

const PAGE = 4096;
const LONG = 100_000;
/** include/uapi/linux/fuse.h */
const READ_LOCKOWNER = 1 << 1;
const WRITE_LOCKOWNER = 1 << 1;

interface PlainFile extends AsyncDisposable {
  readonly fuse: FuseMount;
  readonly client: Client;
  readonly fd: number;
}

/** An open file of 8 pages without passthrough, and its attributes count for long. */
async function plainFile(
  guest: TestGuest,
  openFlags: number,
  { flags = 'O_RDWR', ...options }: FuseOptions & { flags?: string } = {},
): Promise<PlainFile> {
  const fuse = await guest.mountFuse({
    passthrough: 'off',
    attrValidS: LONG,
    init: { dropFlags: ['AUTO_INVAL_DATA'] },
    ...options,
  });
  await fuse.answerOpen('OPEN', { openFlags });
  const client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: pattern(8 * PAGE) });
  const fd = await client.open({ path: fuse.file('f'), flags });
  return {
    fuse,
    client,
    fd,
    [Symbol.asyncDispose]: async () => {
      await client[Symbol.asyncDispose]();
      await fuse[Symbol.asyncDispose]();
    },
  };
}

/** The GETATTRs that an fstat of it sends: none while what the kernel knows counts. */
async function attributesAsked({ fuse, client, fd }: PlainFile): Promise<string[]> {
  const after = await fuse.position();
  await client.fstat({ fd });
  return fuse.opcodes({ opcode: 'GETATTR', after });
}

/** `fuse_write_out`: so many bytes were written. */
function written(size: number): Uint8Array {
  const body = new Uint8Array(8);
  new DataView(body.buffer).setUint32(0, size, true);
  return body;
}

/** What happens to a call whose requests are answered with this. */
async function answered<T>(
  fuse: FuseMount,
  opcode: 'READ' | 'WRITE',
  answer: string | Uint8Array,
  call: () => Promise<T>,
): Promise<{ outcome: T; requests: number }> {
  const after = await fuse.position();
  const takeBack =
    typeof answer === 'string'
      ? await fuse.fail(opcode, answer)
      : await fuse.rule({ match: { opcode }, action: { do: 'body', body: answer } });
  const outcome = await call();
  await takeBack();
  return { outcome, requests: (await fuse.requests({ opcode, after })).length };
}

/** Asynchronous I/O goes by requests that are sent at once where the server wants that (ASYNC_DIO). */
const ASYNC = { init: { addFlags: ['ASYNC_DIO'], dropFlags: ['AUTO_INVAL_DATA'] } } as const;

guestTest('asynchronous reads and writes complete with what the server has answered', async (t, guest) => {
  await using file = await plainFile(guest, 0, { ...ASYNC, flags: 'O_RDWR|O_DIRECT' });
  const { fuse, client, fd } = file;
  const data = pattern(PAGE, 5);
  const aio = async (operation: 'pread' | 'pwrite', offset: number): Promise<number | string> => {
    const [done] = await client.aio({
      operations: [
        operation === 'pread' ? { op: 'pread', fd, count: PAGE, offset } : { op: 'pwrite', fd, data, offset },
      ],
    });
    return done?.result ?? 'nothing';
  };
  t.is(await aio('pread', PAGE), PAGE, 'a read');
  t.is(await aio('pwrite', PAGE), PAGE, 'a write');
  t.is(firstDifference(await client.pread({ fd, count: PAGE, offset: PAGE }), data), undefined);

  for (const offset of [0, PAGE]) {
    const short = await answered(fuse, 'READ', pattern(100), () => aio('pread', offset));
    t.deepEqual(short, { outcome: 100, requests: 1 }, `a read from ${offset} that is answered with less`);
  }
  const error = await answered(fuse, 'READ', 'ENXIO', () => aio('pread', 0));
  t.deepEqual(error, { outcome: 'ENXIO', requests: 1 }, 'a read that fails');
  const less = await answered(fuse, 'WRITE', written(100), () => aio('pwrite', 0));
  t.deepEqual(less, { outcome: 'EIO', requests: 1 }, 'a write of which less was written');
  const more = await answered(fuse, 'WRITE', written(PAGE + 1), () => aio('pwrite', 0));
  t.deepEqual(more, { outcome: 'EIO', requests: 1 }, 'a write of which more was written than was sent');
  const full = await answered(fuse, 'WRITE', 'ENOSPC', () => aio('pwrite', 0));
  t.deepEqual(full, { outcome: 'ENOSPC', requests: 1 }, 'a write that fails');

  const after = await fuse.position();
  t.is(await aio('pread', 8 * PAGE), 0, 'a read at the end');
  t.is(await aio('pread', 20 * PAGE), 0, 'a read beyond it');
  // So far that no rounding to what a request may have makes the rest of the file none.
  t.is(await aio('pread', 8 * PAGE + 16 * 2 ** 20), 0, 'a read far beyond it');
  t.deepEqual(await fuse.opcodes({ opcode: 'READ', after }), [], 'the server is not asked');
});

guestTest(
  'after an asynchronous write attributes are asked for again, and one behind the end makes the file longer first',
  async (t, guest) => {
    await using file = await plainFile(guest, 0, { ...ASYNC, flags: 'O_RDWR|O_DIRECT' });
    const { client, fd } = file;
    const write = (offset: number) =>
      client.aio({ operations: [{ op: 'pwrite', fd, data: pattern(PAGE, 5), offset }] });
    const asked = () => attributesAsked(file);
    await asked();
    t.deepEqual(await asked(), [], 'attributes that count');
    await write(PAGE);
    t.deepEqual(await asked(), ['GETATTR'], 'after a write inside the file');
    await write(8 * PAGE);
    const { size } = await client.fstat({ fd, flags: 'AT_STATX_DONT_SYNC' });
    t.is(size, 9 * PAGE, 'the size after a write behind the end, before anybody is asked');
  },
);

guestTest('a write past the end that the server refuses is cut off again there', async (t, guest) => {
  await using file = await plainFile(guest, 0, { ...ASYNC, flags: 'O_RDWR|O_DIRECT' });
  const { fuse, client, fd } = file;
  const after = await fuse.position();
  const refused = async (offset: number): Promise<void> => {
    const write = (): Promise<string> => client.errno.pwrite({ fd, data: pattern(2 * PAGE), offset });
    const refusal = await answered(fuse, 'WRITE', 'ENOSPC', write);
    t.deepEqual(refusal, { outcome: 'ENOSPC', requests: 1 }, 'and not tried through the cache');
  };
  await refused(6 * PAGE);
  t.deepEqual(await fuse.opcodes({ opcode: 'SETATTR', after }), [], 'of a write up to the end nothing is');
  await refused(7 * PAGE);
  const cuts = await fuse.requests({ opcode: 'SETATTR', after });
  t.deepEqual(
    cuts.map(({ args }) => args['size']),
    [8 * PAGE],
    'SETATTR with the old size: some of it might be there',
  );
  const { reply } = await fuse.waitFor('OPEN');
  t.is(Number(cuts[0]?.args['valid']) & FATTR_FH, FATTR_FH, 'by a handle');
  t.is(cuts[0]?.args['fh'], reply?.open?.fh, 'which is that of the open that wrote');
  t.is((await client.fstat({ fd, flags: 'AT_STATX_DONT_SYNC' })).size, 8 * PAGE);
});

guestTest('direct reads and writes say whose they are, and how they are to be made', async (t, guest) => {
  await using file = await plainFile(guest, OpenFlag.DIRECT_IO);
  const { fuse, client, fd } = file;
  const after = await fuse.position();
  await client.pread({ fd, count: 100, offset: 0 });
  await client.pwrite({ fd, data: pattern(100), offset: 0 });
  const [read, write] = await fuse.requests({ opcode: ['READ', 'WRITE'], after });
  t.is(Number(read?.args['read_flags']) & READ_LOCKOWNER, READ_LOCKOWNER, 'READ has a lock owner');
  t.is(Number(write?.args['write_flags']) & WRITE_LOCKOWNER, WRITE_LOCKOWNER, 'WRITE has one');
  t.is(read?.args['lock_owner'], write?.args['lock_owner'], 'the same: it is one process');
  // On x86-64 and arm64 what begins with so many ones is an address of the kernel.
  t.not(
    BigInt(String(read?.args['lock_owner'])) >> 47n,
    0x1_ffffn,
    'and it is not told where that is in memory',
  );
  await client.close({ fd });
  const { args } = await fuse.waitFor({ opcode: 'FLUSH', after });
  t.is(args['lock_owner'], read?.args['lock_owner'], 'and it is whose locks go with its close');
});

for (const [how, openFlags] of [
  ['cached', 0],
  ['direct', OpenFlag.DIRECT_IO],
] as const) {
  guestTest(`the server sees which ${how} writes have to be durable`, async (t, guest) => {
    await using file = await plainFile(guest, openFlags);
    const { fuse, client, fd } = file;
    const flagsOf = async (flags: string): Promise<string> => {
      const after = await fuse.position();
      await client.pwritev2({ fd, chunks: [pattern(100)], offset: 0, flags });
      const [write] = await fuse.requests({ opcode: 'WRITE', after });
      return openFlagNames(Number(write?.args['flags']));
    };
    t.notRegex(await flagsOf(''), /SYNC/, 'an ordinary write');
    t.regex(await flagsOf('RWF_DSYNC'), /\bO_DSYNC\b/);
    t.regex(await flagsOf('RWF_SYNC'), /\bO_SYNC\b/);
  });
}

guestTest('a cached write on O_SYNC is followed by FSYNC', async (t, guest) => {
  for (const [flags, wanted] of [
    ['O_RDWR', []],
    ['O_RDWR|O_SYNC', ['FSYNC']],
  ] as const) {
    await using file = await plainFile(guest, 0, { flags });
    const after = await file.fuse.position();
    await file.client.pwrite({ fd: file.fd, data: pattern(100), offset: 0 });
    t.deepEqual(await file.fuse.opcodes({ opcode: ['WRITE', 'FSYNC'], after }), ['WRITE', ...wanted], flags);
  }
});

guestTest('a cached write on O_SYNC that the server refuses is not followed by FSYNC', async (t, guest) => {
  await using file = await plainFile(guest, 0, { flags: 'O_RDWR|O_SYNC' });
  const { fuse, client, fd } = file;
  const after = await fuse.position();
  await fuse.fail('WRITE', 'ENOSPC', 1);
  t.is(await client.errno.pwrite({ fd, data: pattern(100), offset: 0 }), 'ENOSPC');
  t.deepEqual(await fuse.opcodes({ opcode: ['WRITE', 'FSYNC'], after }), ['WRITE'], 'nothing was written');
});

/** Transfers of two pages that travel one by one: what lets both be under way at once. */
const TRANSFERS: Readonly<
  Record<
    string,
    {
      readonly flags: string;
      readonly allowing: 'ASYNC_READ' | 'ASYNC_DIO';
      readonly opcode: 'READ' | 'WRITE';
      readonly call: (client: Client, fd: number) => Promise<unknown>;
    }
  >
> = {
  'a cached read': {
    flags: 'O_RDWR',
    allowing: 'ASYNC_READ',
    opcode: 'READ',
    call: (client, fd) => client.pread({ fd, count: 2 * PAGE, offset: 6 * PAGE }),
  },
  'a direct read': {
    flags: 'O_RDWR|O_DIRECT',
    allowing: 'ASYNC_DIO',
    opcode: 'READ',
    call: (client, fd) => client.pread({ fd, count: 2 * PAGE, offset: 6 * PAGE }),
  },
  'a direct write': {
    flags: 'O_RDWR|O_DIRECT',
    allowing: 'ASYNC_DIO',
    opcode: 'WRITE',
    call: (client, fd) => client.pwrite({ fd, data: pattern(2 * PAGE), offset: 6 * PAGE }),
  },
};

guestTest(
  'requests of one transfer are sent at once where the server allows that, else one after the other',
  async (t, guest) => {
    for (const [what, { flags, allowing, opcode, call }] of Object.entries(TRANSFERS)) {
      for (const allowed of [true, false]) {
        const init = allowed
          ? ({ addFlags: [allowing], dropFlags: ['AUTO_INVAL_DATA'], maxWrite: PAGE } as const)
          : ({ dropFlags: [allowing, 'AUTO_INVAL_DATA'], maxWrite: PAGE } as const);
        await using file = await plainFile(guest, 0, { init, flags, maxRead: PAGE });
        const { fuse, client, fd } = file;
        const after = await fuse.position();
        const hold = await fuse.hold(opcode);
        const calling = call(client, fd);
        calling.catch(() => undefined);
        const first = await hold.arrived();
        const name = `${what}, ${allowing} ${allowed ? 'on' : 'off'}`;
        if (allowed) {
          const second = await hold.arrived().catch(() => undefined);
          t.is(second?.args['offset'], 7 * PAGE, `${name}: the second while the first is not answered`);
          if (second !== undefined) await hold.release(second);
        } else {
          // A request that is sent now comes after one that would not wait.
          await client.stat({ path: fuse.path });
          t.is((await fuse.requests({ opcode, after })).length, 1, `${name}: no second one`);
        }
        await hold.stop();
        await hold.release(first);
        await calling;
        t.is((await fuse.requests({ opcode, after })).length, 2, `${name}: in all`);
      }
    }
  },
);

guestTest('no READ is longer than max_read, and no WRITE than max_write', async (t, guest) => {
  const limits = { maxRead: 2 * PAGE, init: { maxWrite: PAGE, dropFlags: ['AUTO_INVAL_DATA'] } } as const;
  for (const openFlags of [0, OpenFlag.DIRECT_IO]) {
    await using file = await plainFile(guest, openFlags, limits);
    const { fuse, client, fd } = file;
    const sizes = async (opcode: 'READ' | 'WRITE'): Promise<number> =>
      Math.max(...(await fuse.requests(opcode)).map(({ args }) => Number(args['size'])));
    await client.pread({ fd, count: 8 * PAGE, offset: 0 });
    t.is(await sizes('READ'), 2 * PAGE, `READ, open flags ${openFlags}`);
    await client.pwrite({ fd, data: pattern(8 * PAGE, 3), offset: 0 });
    t.is(await sizes('WRITE'), PAGE, `WRITE, open flags ${openFlags}`);
    t.is(
      firstDifference(await client.readFile({ path: fuse.backing('f') }), pattern(8 * PAGE, 3)),
      undefined,
    );
  }
});

guestTest(
  'a cached write of several pages is one WRITE where the server takes such, else one a page',
  async (t, guest) => {
    for (const [what, init, wanted] of [
      ['with BIG_WRITES', {}, [3 * PAGE]],
      ['without', { dropFlags: ['BIG_WRITES'] }, [PAGE, PAGE, PAGE]],
    ] as const) {
      await using file = await plainFile(guest, 0, { init });
      const after = await file.fuse.position();
      await file.client.pwrite({ fd: file.fd, data: pattern(3 * PAGE), offset: 0 });
      const sizes = (await file.fuse.requests({ opcode: 'WRITE', after })).map(({ args }) => args['size']);
      t.deepEqual(sizes, wanted, what);
    }
  },
);

guestTest('a short answer to a direct read ends the read', async (t, guest) => {
  await using file = await plainFile(guest, OpenFlag.DIRECT_IO, { maxRead: PAGE });
  const { fuse, client, fd } = file;
  const read = async (): Promise<number> => (await client.pread({ fd, count: 4 * PAGE, offset: 0 })).length;
  const { outcome, requests } = await answered(fuse, 'READ', pattern(100), read);
  t.deepEqual({ outcome, requests }, { outcome: 100, requests: 1 });
});

guestTest('a short answer to a cached read is the end of the file', async (t, guest) => {
  // Where nothing is read ahead a page is asked for alone.
  for (const advice of ['POSIX_FADV_NORMAL', 'POSIX_FADV_RANDOM']) {
    await using file = await plainFile(guest, 0);
    const { fuse, client, fd } = file;
    await client.posix_fadvise({ fd, offset: 0, length: 0, advice });
    const read = async (): Promise<number> => (await client.pread({ fd, count: PAGE, offset: 0 })).length;
    t.is((await answered(fuse, 'READ', pattern(100), read)).outcome, 100, advice);
    const { size } = await client.fstat({ fd, flags: 'AT_STATX_DONT_SYNC' });
    t.is(size, 100, `${advice}: what the kernel believes`);
  }
});

guestTest('a cached write keeps to a max_write that is no whole number of pages', async (t, guest) => {
  const maxWrite = PAGE + 1000;
  await using file = await plainFile(guest, 0, { init: { maxWrite, dropFlags: ['AUTO_INVAL_DATA'] } });
  const { fuse, client, fd } = file;
  const after = await fuse.position();
  await client.pwrite({ fd, data: pattern(4 * PAGE, 3), offset: 0 });
  const sizes = (await fuse.requests({ opcode: 'WRITE', after })).map(({ args }) => Number(args['size']));
  t.is(Math.max(...sizes), maxWrite);
  const stored = await client.readFile({ path: fuse.backing('f') });
  t.is(firstDifference(stored.subarray(0, 4 * PAGE), pattern(4 * PAGE, 3)), undefined);
});

guestTest('a READ that fails is the error of the call, and nothing is kept of it', async (t, guest) => {
  await using file = await plainFile(guest, 0);
  const { fuse, client, fd } = file;
  const read = (): Promise<string> => client.errno.pread({ fd, count: 3 * PAGE, offset: 0 });
  t.is((await answered(fuse, 'READ', 'EIO', read)).outcome, 'EIO');
  const seen = await client.pread({ fd, count: 8 * PAGE, offset: 0 });
  t.is(firstDifference(seen, pattern(8 * PAGE)), undefined, 'the next read');
});

guestTest('after a cached read the access time is asked for again (A40)', async (t, guest) => {
  await using file = await plainFile(guest, 0);
  const { client, fd } = file;
  const asked = () => attributesAsked(file);
  await asked();
  t.deepEqual(await asked(), [], 'attributes that count');
  const map = await client.mmap({ fd, length: 8 * PAGE, prot: 'PROT_READ', flags: 'MAP_PRIVATE' });
  // Without reading ahead each page is read for itself.
  await client.madvise({ map, advice: 'MADV_RANDOM' });
  await asked();
  await client.mread({ map, offset: 5 * PAGE, length: 10 });
  t.deepEqual(await asked(), ['GETATTR'], 'after reading one page');
  await client.munmap({ map });
  await client.pread({ fd, count: 3 * PAGE, offset: 0 });
  t.deepEqual(await asked(), ['GETATTR'], 'after reading ahead');
  await asked();
  await client.pread({ fd, count: 10, offset: 0 });
  t.deepEqual(await asked(), [], 'what comes from the cache is no access that the server could know of');
});

guestTest('what a cached write could not bring to the server is not in the cache', async (t, guest) => {
  await using file = await plainFile(guest, 0, { init: { maxWrite: PAGE, dropFlags: ['AUTO_INVAL_DATA'] } });
  const { fuse, client, fd } = file;
  const old = await client.pread({ fd, count: 2 * PAGE, offset: 0 });
  const data = pattern(PAGE, 9);
  const write = (): Promise<string> => client.errno.pwrite({ fd, data, offset: 0 });
  t.is((await answered(fuse, 'WRITE', 'ENOSPC', write)).outcome, 'ENOSPC');
  const first = await client.pread({ fd, count: PAGE, offset: 0 });
  t.is(firstDifference(first, old.subarray(0, PAGE)), undefined, 'after a write that failed');

  const two = (): Promise<number> => client.pwrite({ fd, data: pattern(2 * PAGE, 9), offset: 0 });
  const short = await answered(fuse, 'WRITE', written(100), two);
  t.deepEqual(short, { outcome: 100, requests: 1 }, 'a write of which a part was written ends there');
  const second = await client.pread({ fd, count: 2 * PAGE, offset: 0 });
  t.is(firstDifference(second, old), undefined, 'what the server has not taken is not there');
  const more = await answered(fuse, 'WRITE', written(2 * PAGE), write);
  t.is(more.outcome, 'EIO', 'more written than was sent');
  t.is(await client.pwrite({ fd, data, offset: 0 }), PAGE, 'and the file works on');
});

/** From where three pages are written in one go, how many bytes the server takes, and the pages that it then reads for. */
const TAKEN = [
  { offset: 0, taken: 3 * PAGE, read: [] },
  { offset: 0, taken: 2 * PAGE + 1, read: [2] },
  { offset: 0, taken: 2 * PAGE, read: [2] },
  { offset: 0, taken: 2 * PAGE - 1, read: [1, 2] },
  { offset: 0, taken: 0, read: [0, 1, 2] },
  { offset: 100, taken: PAGE - 100, read: [1, 2] },
  { offset: 100, taken: PAGE - 101, read: [0, 1, 2] },
  { offset: 100, taken: 2 * PAGE - 100, read: [2] },
  { offset: 100, taken: 2 * PAGE - 101, read: [1, 2] },
  { offset: 100, taken: 3 * PAGE - 101, read: [2] },
] as const;

guestTest(
  'of a cached write that the server takes in part the pages that it took whole stay in the cache, and no others',
  async (t, guest) => {
    const init = { maxWrite: 4 * PAGE, dropFlags: ['AUTO_INVAL_DATA'] } as const;
    await using file = await plainFile(guest, 0, { init });
    const { fuse, client, fd } = file;
    await client.posix_fadvise({ fd, offset: 0, length: 0, advice: 'POSIX_FADV_RANDOM' });
    for (const { offset, taken, read } of TAKEN) {
      const what = `${taken} bytes from ${offset}`;
      await client.pread({ fd, count: 3 * PAGE, offset: 0 });
      const data = pattern(3 * PAGE - offset, 9);
      const write = (): Promise<string> => client.errno.pwrite({ fd, data, offset });
      const { requests } = await answered(fuse, 'WRITE', written(taken), write);
      t.is(requests, 1, `${what}: one WRITE`);
      const after = await fuse.position();
      for (const page of [0, 1, 2]) await client.pread({ fd, count: PAGE, offset: page * PAGE });
      const sent = await fuse.requests({ opcode: 'READ', after });
      t.deepEqual(
        sent.map(({ args }) => Number(args['offset']) / PAGE),
        [...read],
        `${what}: pages that are read anew`,
      );
    }
  },
);

guestTest(
  'a stranger’s cached write asks for setuid bits to be cleared where the server does that',
  async (t, guest) => {
    const init = { addFlags: ['HANDLE_KILLPRIV_V2'], dropFlags: ['AUTO_INVAL_DATA'] } as const;
    await using file = await plainFile(guest, 0, { init, allowOther: true });
    const { fuse, client, fd } = file;
    const flags = async (): Promise<number> => {
      const after = await fuse.position();
      await client.pwrite({ fd, data: pattern(10), offset: 0 });
      const [write] = await fuse.requests({ opcode: 'WRITE', after });
      return Number(write?.args['write_flags']) & (1 << 2);
    };
    t.is(await flags(), 0, 'root keeps them');
    await client.setCredentials({ uid: 4000, gid: 4000 });
    t.is(await flags(), 1 << 2, 'FUSE_WRITE_KILL_SUIDGID');
  },
);

guestTest('a direct write takes what it overwrites out of the cache of other opens', async (t, guest) => {
  guest.needs(guest.expected.hasIoModes, 'direct writes that look at what others have in the cache');
  await using file = await plainFile(guest, OpenFlag.KEEP_CACHE);
  const { fuse, client, fd } = file;
  await client.pread({ fd, count: 8 * PAGE, offset: 0 });
  await fuse.answerOpen('OPEN', { openFlags: OpenFlag.DIRECT_IO | OpenFlag.KEEP_CACHE }, 1);
  const direct = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
  await client.pwrite({ fd: direct, data: 'direct', offset: 2 * PAGE });
  const after = await fuse.position();
  t.is(text(await client.pread({ fd, count: 6, offset: 2 * PAGE })), 'direct', 'read by the cached open');
  t.deepEqual(await fuse.opcodes({ opcode: 'READ', after }), ['READ'], 'from the server');
  await client.pread({ fd, count: 6, offset: 6 * PAGE });
  t.deepEqual(await fuse.opcodes({ opcode: 'READ', after }), ['READ'], 'other pages stay');
  await client.close({ fd: direct });
});
