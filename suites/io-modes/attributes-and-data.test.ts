import { pattern } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import { ATTR, ATTR_OUT, u64 } from '../lib/entry-answer.ts';
import { OpenFlag } from '../lib/fuse-abi.ts';
import type { FuseMount, FuseOptions } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';

/** What reads and writes of data have to do with the attributes that the kernel knows. */

const PAGE = 4096;
const SIZE = 8 * PAGE;
/** Longer than any test. Seconds. */
const LONG = 100_000;

/** A file of eight pages, open for the cache and otherwise; its attributes count for long. */
interface Opened {
  readonly fuse: FuseMount;
  readonly client: Client;
  readonly fd: number;
  /** Opened with DIRECT_IO. */
  readonly direct: number;
  /** Opened with O_DIRECT. */
  readonly past: number;
}

async function opened(
  guest: TestGuest,
  client: Client,
  init: NonNullable<FuseOptions['init']>,
): Promise<Opened> {
  const fuse = await guest.mountFuse({ passthrough: 'off', attrValidS: LONG, entryValidS: LONG, init });
  await client.writeFile({ path: fuse.backing('f'), data: pattern(SIZE) });
  const path = fuse.file('f');
  const fd = await client.open({ path, flags: 'O_RDWR' });
  const past = await client.open({ path, flags: 'O_RDWR|O_DIRECT' });
  await fuse.answerOpen('OPEN', { openFlags: OpenFlag.DIRECT_IO | OpenFlag.KEEP_CACHE }, 1);
  const direct = await client.open({ path, flags: 'O_RDWR' });
  return { fuse, client, fd, direct, past };
}

async function close({ client, fd, direct, past }: Opened): Promise<void> {
  for (const each of [direct, past, fd]) await client.close({ fd: each });
}

/** Calls after which an older size does not count, and the size that the kernel knows then. */
const CALLS: Readonly<Record<string, readonly [(at: Opened) => Promise<unknown>, number]>> = {
  'a cached write': [({ client, fd }) => client.pwrite({ fd, data: 'new', offset: 0 }), SIZE],
  'a direct write': [({ client, direct }) => client.pwrite({ fd: direct, data: 'new', offset: 0 }), SIZE],
  'an asynchronous write': [
    ({ client, past }) =>
      client.aio({ operations: [{ op: 'pwrite', fd: past, data: pattern(PAGE, 3), offset: PAGE }] }),
    SIZE,
  ],
  'a short answer to a read': [
    async ({ fuse, client, fd }) => {
      await fuse.rule({ match: { opcode: 'READ' }, times: 1, action: { do: 'body', body: pattern(100) } });
      await client.posix_fadvise({ fd, offset: 0, length: 0, advice: 'POSIX_FADV_RANDOM' });
      await client.pread({ fd, count: PAGE, offset: 4 * PAGE });
    },
    4 * PAGE + 100,
  ],
};

guestTest(
  'attributes from before data were written or found missing do not count (A41)',
  async (t, guest) => {
    await using client = await guest.client();
    await using other = await guest.client();
    for (const [what, [call, known]] of Object.entries(CALLS)) {
      const init = { addFlags: ['ASYNC_DIO'], dropFlags: ['AUTO_INVAL_DATA'] } as const;
      const at = await opened(guest, client, init);
      const { fuse, fd } = at;
      await using _fuse = fuse;
      const seen = await other.open({ path: fuse.file('f'), flags: 'O_RDONLY' });
      const hold = await fuse.hold('GETATTR');
      const asking = other.fstat({ fd: seen, flags: 'AT_STATX_FORCE_SYNC' });
      asking.catch(() => undefined);
      const request = await hold.arrived();
      await call(at);
      await hold.stop();
      await hold.release(request, {
        do: 'patch',
        at: ATTR_OUT.attr + ATTR.size,
        bytes: u64(BigInt(SIZE - 7)),
      });
      await asking;
      t.is((await client.fstat({ fd, flags: 'AT_STATX_DONT_SYNC' })).size, known, `${what}: the size`);
      await other.close({ fd: seen });
      await close(at);
    }
  },
);

/** What makes attributes outdated, and whether the size is among them. */
const OUTDATING: Readonly<Record<string, readonly [(at: Opened) => Promise<unknown>, boolean]>> = {
  nothing: [() => Promise.resolve(), false],
  'a direct read, after which the time of access is': [
    ({ client, direct }) => client.pread({ fd: direct, count: 10, offset: 0 }),
    false,
  ],
  'a write, after which the size is': [
    ({ client, fd }) => client.pwrite({ fd, data: 'new', offset: 0 }),
    true,
  ],
};

/** Reads, and with which flags they ask for the size if it is outdated. */
const READS = {
  'a read in the middle': { offset: PAGE, withAutoInval: true, without: false },
  'a read up to the end': { offset: SIZE - 10, withAutoInval: true, without: false },
  'a read across the end': { offset: SIZE - 5, withAutoInval: true, without: true },
  'a read behind the end': { offset: SIZE + 5, withAutoInval: true, without: true },
} as const;

for (const auto of [true, false]) {
  guestTest(
    `a cached read asks for attributes if the size is outdated, ${auto ? 'with AUTO_INVAL_DATA wherever it is' : 'without AUTO_INVAL_DATA only where it reaches behind the end'}`,
    async (t, guest) => {
      await using client = await guest.client();
      const flags = ['AUTO_INVAL_DATA'] as const;
      const at = await opened(guest, client, auto ? { addFlags: flags } : { dropFlags: flags });
      const { fuse, fd } = at;
      await using _fuse = fuse;
      await client.pread({ fd, count: SIZE, offset: 0 });
      for (const [read, { offset, withAutoInval, without }] of Object.entries(READS)) {
        for (const [what, [outdate, size]] of Object.entries(OUTDATING)) {
          await client.fstat({ fd, flags: 'AT_STATX_FORCE_SYNC' });
          await outdate(at);
          const after = await fuse.position();
          for (const time of ['first', 'second']) {
            await client.pread({ fd, count: 10, offset });
            const wanted = size && (auto ? withAutoInval : without) ? ['GETATTR'] : [];
            t.deepEqual(
              await fuse.opcodes({ opcode: 'GETATTR', after }),
              wanted,
              `${read} after ${what}: what is asked for by the ${time} one`,
            );
          }
        }
      }
      await close(at);
    },
  );
}

guestTest('no direct READ or WRITE has more pages than max_pages', async (t, guest) => {
  await using client = await guest.client();
  for (const maxPages of [1, 3]) {
    const init = { maxPages, maxWrite: 64 * PAGE, addFlags: ['MAX_PAGES'] } as const;
    const at = await opened(guest, client, init);
    const { fuse, past } = at;
    await using _fuse = fuse;
    const data = pattern(7 * PAGE, 9);
    const after = await fuse.position();
    // From memory that begins with a page.
    await client.aio({ operations: [{ op: 'pwrite', fd: past, data, offset: 0 }] });
    const [done] = await client.aio({ operations: [{ op: 'pread', fd: past, count: 7 * PAGE, offset: 0 }] });
    t.deepEqual(done?.data, data, `max_pages ${maxPages}: what is read is what was written`);
    for (const opcode of ['WRITE', 'READ'] as const) {
      const sizes = (await fuse.requests({ opcode, after })).map(({ args }) => Number(args['size']));
      const wanted = maxPages === 1 ? Array.from({ length: 7 }, () => PAGE) : [3 * PAGE, 3 * PAGE, PAGE];
      t.deepEqual(sizes, wanted, `max_pages ${maxPages}: ${opcode}`);
    }
    await close(at);
  }
});
