import { pattern } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import { OpenFlag } from '../lib/fuse-abi.ts';
import { guestTest } from '../lib/guest-test.ts';
import { mountWritebackCache } from '../lib/writeback-cache.ts';

/** What reads, writes and seeks past passthrough mode ask the server about attributes, and what each WRITE says. */

const PAGE = 4096;
/** Longer than any test. Seconds. */
const LONG = 100_000;
/** include/uapi/linux/fuse.h */
const GETATTR_FH = 1 << 0;
const WRITE_KILL_SUIDGID = 1 << 2;
const WITHOUT_INVAL = { dropFlags: ['AUTO_INVAL_DATA'] } as const;

/** Calls that ask for what has expired before they do their work. */
const ASKING: Readonly<Record<string, (client: Client, fd: number) => Promise<unknown>>> = {
  'a read to the end of file': (client, fd) => client.pread({ fd, count: PAGE, offset: 0 }),
  'a write that waits in the cache': (client, fd) => client.pwrite({ fd, data: 'new', offset: 0 }),
  'SEEK_DATA that the server does not know': (client, fd) =>
    client.lseek({ fd, offset: 0, whence: 'SEEK_DATA' }),
  'SEEK_HOLE that the server does not know': (client, fd) =>
    client.lseek({ fd, offset: 0, whence: 'SEEK_HOLE' }),
};

guestTest('who needs the size of an open file asks for it by the handle of that open', async (t, guest) => {
  await using client = await guest.client();
  for (const [what, call] of Object.entries(ASKING)) {
    const waits = what === 'a write that waits in the cache';
    await using fuse = await (waits
      ? mountWritebackCache(guest)
      : guest.mountFuse({ passthrough: 'off', init: WITHOUT_INVAL }));
    await fuse.fail('LSEEK', 'ENOSYS');
    await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
    const other = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
    const opened = await fuse.position();
    const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
    const { reply } = await fuse.waitFor({ opcode: 'OPEN', after: opened });
    const after = await fuse.position();
    await call(client, fd);
    const asked = await fuse.requests({ opcode: 'GETATTR', after });
    t.deepEqual(
      asked.map(({ args }) => [args['getattr_flags'], args['fh']]),
      [[GETATTR_FH, reply?.open?.fh]],
      `${what}: GETATTR by the handle of the open`,
    );
    for (const each of [fd, other]) await client.close({ fd: each });
  }
});

/** `STATX_*` of linux/stat.h, and whether it is outdated when data or blocks of a file have changed. */
const ATTRIBUTES = {
  'the time of access': [0x20, false],
  'the time of change': [0x40, true],
  'the time of change of attributes': [0x80, true],
  'the size': [0x200, true],
  'how many blocks it has': [0x400, true],
} as const;

/** Changes of an open file that none of these is asked for by. */
const CHANGES: Readonly<Record<string, (client: Client, fd: number) => Promise<unknown>>> = {
  'an asynchronous direct write': (client, fd) =>
    client.aio({ operations: [{ op: 'pwrite', fd, data: pattern(PAGE, 5), offset: PAGE }] }),
  'fallocate that keeps the size': (client, fd) =>
    client.fallocate({ fd, mode: 'FALLOC_FL_KEEP_SIZE', offset: 0, length: 8 * PAGE }),
};

for (const [what, change] of Object.entries(CHANGES)) {
  guestTest(
    `after ${what} each thing that may have changed is asked for by itself, and the time of access is not (A40)`,
    async (t, guest) => {
      const init = { addFlags: ['ASYNC_DIO'], ...WITHOUT_INVAL } as const;
      const options = { passthrough: 'off', attrValidS: LONG, entryValidS: LONG, init } as const;
      await using fuse = await guest.mountFuse(options);
      await using client = await guest.client();
      await client.writeFile({ path: fuse.backing('f'), data: pattern(4 * PAGE) });
      const path = fuse.file('f');
      const fd = await client.open({ path, flags: 'O_RDWR|O_DIRECT' });
      for (const [attribute, [mask, outdated]] of Object.entries(ATTRIBUTES)) {
        const asked = async (): Promise<string[]> => {
          const after = await fuse.position();
          await client.stat({ path, mask });
          return fuse.opcodes({ opcode: 'GETATTR', after });
        };
        await client.fstat({ fd, flags: 'AT_STATX_FORCE_SYNC' });
        t.deepEqual(await asked(), [], `${attribute} before`);
        await change(client, fd);
        t.deepEqual(await asked(), outdated ? ['GETATTR'] : [], `${attribute} after ${what}`);
      }
      await client.close({ fd });
    },
  );
}

guestTest(
  'each WRITE of a stranger’s direct write asks for setuid bits to be cleared, not the first alone (A42)',
  async (t, guest) => {
    const options = { passthrough: 'off', allowOther: true, init: { maxWrite: PAGE } } as const;
    await using fuse = await guest.mountFuse(options);
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: pattern(4 * PAGE) });
    await fuse.answerOpen('OPEN', { openFlags: OpenFlag.DIRECT_IO });
    const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
    const flags = async (): Promise<unknown[]> => {
      const after = await fuse.position();
      await client.pwrite({ fd, data: pattern(3 * PAGE, 5), offset: PAGE });
      const sent = await fuse.requests({ opcode: 'WRITE', after });
      return sent.map(({ args }) => [args['offset'], Number(args['write_flags']) & WRITE_KILL_SUIDGID]);
    };
    const each = (bit: number): unknown[] => [1, 2, 3].map((page) => [page * PAGE, bit]);
    t.deepEqual(await flags(), each(0), 'root keeps them');
    await client.setCredentials({ uid: 4000, gid: 4000 });
    t.deepEqual(await flags(), each(WRITE_KILL_SUIDGID), 'a stranger does not');
    await client.close({ fd });
  },
);
