import { pattern, text } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import { OpenFlag, type OpcodeName } from '../lib/fuse-abi.ts';
import type { FuseMount } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';
import { beginWriteback, mountWritebackCache } from '../lib/writeback-cache.ts';

/** What the server refuses to a file whose writes wait in the page cache: who is told, and what is not asked then. */

const PAGE = 4096;
/** Longer than any test. Seconds. */
const LONG = 100_000;
const WITHOUT_INVAL = { passthrough: 'off', init: { dropFlags: ['AUTO_INVAL_DATA'] } } as const;

async function open(client: Client, fuse: FuseMount, name = 'f'): Promise<number> {
  await client.writeFile({ path: fuse.backing(name), data: pattern(2 * PAGE) });
  return client.open({ path: fuse.file(name), flags: 'O_RDWR' });
}

/** Has a page written back, which the server refuses; nobody has been told of it yet. */
async function loseData(client: Client, fuse: FuseMount, fd: number): Promise<void> {
  const after = await fuse.position();
  await fuse.fail('WRITE', 'ENOSPC', 1);
  await client.pwrite({ fd, data: 'lost', offset: 0 });
  await beginWriteback(client, fd);
  await fuse.waitFor({ opcode: 'WRITE', after });
}

interface Next {
  readonly call: (client: Client, fds: { fd: number; other: number; direct: number }) => Promise<string>;
  /** What it asks for when all is well. */
  readonly asks: readonly OpcodeName[];
  readonly needs?: (guest: TestGuest) => boolean;
}

/** The calls that look at what has become of the pages before they do their work. */
const NEXT: Readonly<Record<string, Next>> = {
  fsync: { call: (client, { fd }) => client.errno.fsync({ fd }), asks: ['FSYNC'] },
  'fallocate of a hole': {
    call: (client, { fd }) => {
      const mode = 'FALLOC_FL_PUNCH_HOLE|FALLOC_FL_KEEP_SIZE';
      return client.errno.fallocate({ fd, mode, offset: 0, length: PAGE });
    },
    asks: ['FALLOCATE'],
  },
  'copy_file_range from it': {
    call: (client, { fd, other }) =>
      client.errno.copy_file_range({ fdIn: fd, offIn: 0, fdOut: other, offOut: 0, length: PAGE }),
    asks: ['COPY_FILE_RANGE', 'COPY_FILE_RANGE_64'],
  },
  'copy_file_range to it': {
    call: (client, { fd, other }) =>
      client.errno.copy_file_range({ fdIn: other, offIn: 0, fdOut: fd, offOut: 0, length: PAGE }),
    asks: ['COPY_FILE_RANGE', 'COPY_FILE_RANGE_64'],
  },
  'a read past the cache': {
    call: (client, { direct }) => client.errno.pread({ fd: direct, count: PAGE, offset: 0 }),
    asks: ['READ'],
    // Later kernels write back what such a read would not see.
    needs: ({ expected }) => expected.hasIoModes,
  },
  'a write past the cache': {
    call: (client, { direct }) => client.errno.pwrite({ fd: direct, data: 'new', offset: 0 }),
    asks: ['WRITE'],
    needs: ({ expected }) => expected.hasIoModes,
  },
};

guestTest(
  'that data were lost is told by the next call that looks for it, which then asks for nothing, and once',
  async (t, guest) => {
    await using client = await guest.client();
    for (const [what, { call, asks, needs }] of Object.entries(NEXT)) {
      if (needs?.(guest) === false) continue;
      await using fuse = await mountWritebackCache(guest);
      const [fd, other] = [await open(client, fuse), await open(client, fuse, 'other')];
      await fuse.answerOpen('OPEN', { openFlags: OpenFlag.DIRECT_IO }, 1);
      const direct = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
      const fds = { fd, other, direct };
      await loseData(client, fuse, fd);
      const after = await fuse.position();
      t.is(await call(client, fds), 'ENOSPC', what);
      t.deepEqual(await fuse.opcodes({ opcode: asks, after }), [], `${what}: nothing is asked`);
      t.is(await call(client, fds), 'ok', `${what}: the next time`);
      t.true((await fuse.opcodes({ opcode: asks, after })).length > 0, `${what}: it is asked for then`);
      for (const each of [direct, other, fd]) await client.errno.close({ fd: each });
    }
  },
);

/** Calls before which the server has to know the times that the kernel keeps, and what they ask for then. */
const TIMES: Readonly<Record<string, Next>> = {
  fsync: { call: (client, { fd }) => client.errno.fsync({ fd }), asks: ['FSYNC'] },
  close: { call: (client, { other }) => client.errno.close({ fd: other }), asks: ['FLUSH'] },
};

guestTest(
  'an error of the server for the times that the kernel keeps is that of the call that had to tell them',
  async (t, guest) => {
    await using client = await guest.client();
    for (const [what, { call, asks }] of Object.entries(TIMES)) {
      await using fuse = await mountWritebackCache(guest);
      const fd = await open(client, fuse);
      const other = await client.dup({ fd });
      await client.pwrite({ fd, data: 'new', offset: 0 });
      const after = await fuse.position();
      await fuse.fail('SETATTR', 'EDQUOT', 1);
      t.is(await call(client, { fd, other, direct: fd }), 'EDQUOT', what);
      const asked = await fuse.opcodes({ opcode: ['SETATTR', ...asks], after });
      t.deepEqual(asked, ['SETATTR'], `${what}: the times, and then nothing`);
      await client.errno.close({ fd: other });
      await client.errno.close({ fd });
    }
  },
);

/** Changes whose time the kernel keeps, and tells the server once the server has made them. */
const TIMED: Readonly<Record<string, (client: Client, fuse: FuseMount) => Promise<string>>> = {
  link: (client, fuse) => client.errno.link({ from: fuse.file('f'), to: fuse.file('g') }),
  rename: (client, fuse) => client.errno.rename({ from: fuse.file('f'), to: fuse.file('g') }),
};

guestTest(
  'an error of the server for the time of a change that it has made is that of the next fsync, and of it alone',
  async (t, guest) => {
    await using client = await guest.client();
    for (const [what, change] of Object.entries(TIMED)) {
      await using fuse = await mountWritebackCache(guest);
      const fd = await open(client, fuse);
      const after = await fuse.position();
      await fuse.fail('SETATTR', 'EDQUOT', 1);
      t.is(await change(client, fuse), 'ok', what);
      t.deepEqual(await fuse.opcodes({ opcode: 'SETATTR', after }), ['SETATTR'], `${what}: the time is told`);
      t.is(await client.errno.fsync({ fd }), 'EDQUOT', `${what}: the next fsync`);
      t.is(await client.errno.fsync({ fd }), 'ok', `${what}: the one after it`);
      await client.errno.close({ fd });
    }
  },
);

guestTest('attributes are not set when what has to be written back before is refused', async (t, guest) => {
  await using fuse = await mountWritebackCache(guest);
  await using client = await guest.client();
  const fd = await open(client, fuse);
  await client.chmod({ path: fuse.backing('f'), mode: 0o640 });
  await client.pwrite({ fd, data: 'new', offset: 0 });
  const after = await fuse.position();
  await fuse.fail('SETATTR', 'EDQUOT', 1);
  t.is(await client.errno.fchmod({ fd, mode: 0o600 }), 'EDQUOT', 'the error for the times');
  t.deepEqual(await fuse.opcodes({ opcode: 'SETATTR', after }), ['SETATTR'], 'and only they were told');
  t.is((await client.stat({ path: fuse.backing('f') })).mode & 0o7777, 0o640);
  t.is(await client.errno.fchmod({ fd, mode: 0o600 }), 'ok');
  t.is((await client.stat({ path: fuse.backing('f') })).mode & 0o7777, 0o600);
  await client.close({ fd });
});

/** Calls that need to know the size first. */
const SIZED: Readonly<Record<string, (client: Client, fd: number) => Promise<string>>> = {
  'a write that waits': (client, fd) => client.errno.pwrite({ fd, data: 'new', offset: 0 }),
  'a read beyond the size': (client, fd) => client.errno.pread({ fd, count: 10, offset: 2 * PAGE - 5 }),
  SEEK_END: (client, fd) => client.errno.lseek({ fd, offset: 0, whence: 'SEEK_END' }),
  SEEK_DATA: (client, fd) => client.errno.lseek({ fd, offset: 0, whence: 'SEEK_DATA' }),
};

guestTest('who needs the size of a file gets the error that the server has for it', async (t, guest) => {
  await using client = await guest.client();
  for (const [what, call] of Object.entries(SIZED)) {
    const waits = what === 'a write that waits';
    await using fuse = await (waits ? mountWritebackCache(guest) : guest.mountFuse(WITHOUT_INVAL));
    await fuse.fail('LSEEK', 'ENOSYS');
    const fd = await open(client, fuse);
    const after = await fuse.position();
    const takeBack = await fuse.fail('GETATTR', 'EACCES');
    t.is(await call(client, fd), 'EACCES', what);
    const asked = await fuse.opcodes({ opcode: ['READ', 'WRITE', 'GETATTR'], after });
    t.deepEqual(asked, ['GETATTR'], `${what}: nothing else is asked`);
    await takeBack();
    t.is(await call(client, fd), 'ok', `${what}: the next time`);
    await client.close({ fd });
  }
});

guestTest(
  'with AUTO_INVAL_DATA a read of what is in the cache gets the error that the server has for the attributes',
  async (t, guest) => {
    const init = { addFlags: ['AUTO_INVAL_DATA'] } as const;
    await using fuse = await guest.mountFuse({ passthrough: 'off', init });
    await using client = await guest.client();
    const fd = await open(client, fuse);
    const read = { fd, count: 4, offset: 0 };
    const contents = text(await client.pread(read));
    const takeBack = await fuse.fail('GETATTR', 'EACCES');
    t.is(await client.errno.pread(read), 'EACCES');
    await takeBack();
    t.is(text(await client.pread(read)), contents);
    await client.close({ fd });
  },
);

guestTest(
  'a part of a page is not written where the server does not give the rest of the page',
  async (t, guest) => {
    await using fuse = await mountWritebackCache(guest);
    await using client = await guest.client();
    const fd = await open(client, fuse);
    const after = await fuse.position();
    await fuse.fail('READ', 'ENXIO', 1);
    t.is(await client.errno.pwrite({ fd, data: 'new', offset: 100 }), 'ENXIO', 'a part of a page');
    t.is(await client.errno.pwrite({ fd, data: pattern(PAGE, 3), offset: PAGE }), 'ok', 'a whole page');
    await client.fsync({ fd });
    const sent = await fuse.requests({ opcode: 'WRITE', after });
    t.deepEqual(
      sent.map(({ args }) => args['offset']),
      [PAGE],
      'what is written',
    );
    t.is(await client.errno.pwrite({ fd, data: 'new', offset: 100 }), 'ok', 'the next time');
    t.is(text(await client.pread({ fd, count: 3, offset: 100 })), 'new');
    await client.close({ fd });
  },
);

guestTest(
  'of an aborted connection what is in the cache is read and all else is ENOTCONN, and nobody waits',
  async (t, guest) => {
    const init = {
      addFlags: ['WRITEBACK_CACHE'],
      dropFlags: ['PASSTHROUGH', 'PASSTHROUGH_FD', 'AUTO_INVAL_DATA'],
    } as const;
    await using fuse = await guest.mountFuse({
      passthrough: 'off',
      init,
      attrValidS: LONG,
      entryValidS: LONG,
    });
    await using client = await guest.client();
    const fd = await open(client, fuse);
    await client.posix_fadvise({ fd, offset: 0, length: 0, advice: 'POSIX_FADV_RANDOM' });
    await client.pwrite({ fd, data: pattern(PAGE, 9), offset: 0 });
    await fuse.abort();
    await fuse.untilWaiting(0);
    t.is(await client.errno.pread({ fd, count: PAGE, offset: 0 }), 'ok', 'a page that is in the cache');
    await client.posix_fadvise({ fd, offset: 0, length: 0, advice: 'POSIX_FADV_NORMAL' });
    t.is(await client.errno.pread({ fd, count: PAGE, offset: PAGE }), 'ENOTCONN', 'one that is not');
    t.is(await client.errno.fsync({ fd }), 'ENOTCONN', 'fsync');
    t.is(await client.errno.fsync({ fd }), 'ENOTCONN', 'once more');
    t.is(await client.errno.close({ fd }), 'ENOTCONN', 'close');
  },
);

guestTest(
  'of an aborted connection direct I/O whose requests are sent at once is ENOTCONN, too',
  async (t, guest) => {
    await using fuse = await guest.mountFuse({ passthrough: 'off', init: { addFlags: ['ASYNC_DIO'] } });
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: pattern(4 * PAGE) });
    const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR|O_DIRECT' });
    t.is(await client.errno.pread({ fd, count: PAGE, offset: 0 }), 'ok', 'before');
    await fuse.abort();
    await fuse.untilWaiting(0);
    const data = pattern(PAGE, 2);
    t.is(await client.errno.pread({ fd, count: PAGE, offset: 0 }), 'ENOTCONN', 'a read');
    t.is(await client.errno.pwrite({ fd, data, offset: 0 }), 'ENOTCONN', 'a write');
    const ends = await client.aio({
      operations: [
        { op: 'pread', fd, count: PAGE, offset: 0 },
        { op: 'pwrite', fd, data, offset: PAGE },
      ],
    });
    t.deepEqual(
      ends.map(({ result }) => result),
      ['ENOTCONN', 'ENOTCONN'],
      'asynchronous ones',
    );
  },
);
