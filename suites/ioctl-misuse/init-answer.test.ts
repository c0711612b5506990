import { pattern, text } from '../lib/bytes.ts';
import type { FuseOptions } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';
import { mountedAt } from '../lib/mounted-at.ts';
import { openAs } from '../lib/open-modes.ts';

/** What an answer to INIT settles for files that are served, beside one in passthrough mode, for which it does not count. */

const KIB = 1024;
const TRANSFER = 300 * KIB;
/** FUSE_DEFAULT_MAX_PAGES_PER_REQ of 4 KiB. */
const DEFAULT_MAX = 128 * KIB;

interface Limits {
  readonly init: NonNullable<FuseOptions['init']>;
  readonly maxRead?: number;
  /** The largest WRITE and READ of direct I/O. Bytes. */
  readonly write: number;
  readonly read: number;
}

const LIMITS: Readonly<Record<string, Limits>> = {
  'max_write 64 KiB': { init: { maxWrite: 64 * KIB }, write: 64 * KIB, read: TRANSFER },
  'max_write 100, which is less than a page': { init: { maxWrite: 100 }, write: 4 * KIB, read: TRANSFER },
  'max_pages 4': { init: { maxPages: 4, addFlags: ['MAX_PAGES'] }, write: 16 * KIB, read: 16 * KIB },
  'max_pages 0': { init: { maxPages: 0, addFlags: ['MAX_PAGES'] }, write: 4 * KIB, read: 4 * KIB },
  'max_pages 4 without MAX_PAGES': {
    init: { maxPages: 4, dropFlags: ['MAX_PAGES'] },
    write: DEFAULT_MAX,
    read: DEFAULT_MAX,
  },
  'the mount option max_read=16384': { init: {}, maxRead: 16 * KIB, write: TRANSFER, read: 16 * KIB },
  'the mount option max_read=1, which is less than a page': {
    init: {},
    maxRead: 1,
    write: TRANSFER,
    read: 4 * KIB,
  },
};

/** Lengths of the requests that one transfer becomes. */
function pieces(largest: number): number[] {
  const whole = Array.from({ length: Math.floor(TRANSFER / largest) }, () => largest);
  const rest = TRANSFER % largest;
  return rest === 0 ? whole : [...whole, rest];
}

for (const [what, { init, maxRead, write, read }] of Object.entries(LIMITS)) {
  guestTest(`${what} cuts what the server gets, and not what passes it by (A37, B25)`, async (t, guest) => {
    await using fuse = await guest.mountFuse({ init, maxRead });
    await fuse.fail('GETXATTR', 'ENOSYS');
    await using client = await guest.client();
    const data = pattern(TRANSFER);
    for (const name of ['served', 'passed']) await client.writeFile({ path: fuse.backing(name), data });
    const served = await openAs(client, fuse, { name: 'served', mode: 'direct' });
    const sizes = async (opcode: 'READ' | 'WRITE'): Promise<unknown[]> => {
      return (await fuse.requests(opcode)).map(({ args }) => args['size']);
    };
    t.is(await client.pwrite({ fd: served, data, offset: 0 }), TRANSFER);
    t.deepEqual(await sizes('WRITE'), pieces(write), 'WRITE');
    t.deepEqual(await client.pread({ fd: served, count: TRANSFER, offset: 0 }), data);
    t.deepEqual(await sizes('READ'), pieces(read), 'READ');

    const passed = await client.open({ path: fuse.file('passed'), flags: 'O_RDWR' });
    const after = await fuse.position();
    t.is(await client.pwrite({ fd: passed, data, offset: 0 }), TRANSFER);
    t.deepEqual(await client.pread({ fd: passed, count: TRANSFER, offset: 0 }), data);
    t.deepEqual(await fuse.requests({ opcode: ['READ', 'WRITE'], after }), [], 'in passthrough mode');
    for (const fd of [served, passed]) await client.close({ fd });
  });
}

guestTest(
  'INIT sets read-ahead, the granularity of times and how much may be under way, and what is too much is cut (B25)',
  async (t, guest) => {
    await using client = await guest.client();
    for (const { init, seen } of [
      { init: {}, seen: { readAheadKib: 128, background: 12, congestion: 9, mtimeNs: 2_700_000_001 } },
      {
        init: { maxReadahead: 16 * KIB, maxBackground: 40, congestionThreshold: 7, timeGran: 1_000_000_000 },
        seen: { readAheadKib: 16, background: 40, congestion: 7, mtimeNs: 2_000_000_000 },
      },
      {
        init: { maxReadahead: 2 ** 30, timeGran: 1000 },
        seen: { readAheadKib: 128, background: 12, congestion: 9, mtimeNs: 2_700_000_000 },
      },
      {
        // A page and most of the next: of read-ahead there are whole pages, and no more than the server wants.
        init: { maxReadahead: 8 * KIB - 1 },
        seen: { readAheadKib: 4, background: 12, congestion: 9, mtimeNs: 2_700_000_001 },
      },
      ...[0, 1_000_000_001, 0xffff_ffff].map((timeGran) => ({
        init: { timeGran },
        seen: { readAheadKib: 128, background: 12, congestion: 9, mtimeNs: 2_700_000_001 },
      })),
    ]) {
      await using fuse = await guest.mountFuse({ init });
      await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
      await client.utimens({ path: fuse.file('f'), atimeNs: 1e9, mtimeNs: 2_700_000_001 });
      const { devMajor, devMinor } = await client.stat({ path: fuse.path });
      const number = async (path: string): Promise<number> => Number(text(await client.readFile({ path })));
      const connection = `/sys/fs/fuse/connections/${fuse.connection}`;
      t.deepEqual(
        {
          readAheadKib: await number(`/sys/class/bdi/${devMajor}:${devMinor}/read_ahead_kb`),
          background: await number(`${connection}/max_background`),
          congestion: await number(`${connection}/congestion_threshold`),
          mtimeNs: (await client.stat({ path: fuse.backing('f') })).mtimeNs,
        },
        seen,
        JSON.stringify(init),
      );
    }
  },
);

guestTest(
  'the mount says what it was mounted with, and statfs what the server says of space',
  async (t, guest) => {
    await using client = await guest.client();
    for (const { options, shown } of [
      { options: { allowOther: false }, shown: 'rw,user_id=0,group_id=0' },
      { options: { allowOther: true }, shown: 'rw,user_id=0,group_id=0,allow_other' },
      { options: { allowOther: false, maxRead: 1 }, shown: 'rw,user_id=0,group_id=0,max_read=4096' },
      {
        options: { allowOther: true, defaultPermissions: true, maxRead: 65_536 },
        shown: 'rw,user_id=0,group_id=0,default_permissions,allow_other,max_read=65536',
      },
    ]) {
      await using fuse = await guest.mountFuse(options);
      t.is((await mountedAt(client, fuse.path)).options, shown);
      const [above, below] = [
        await client.statfs({ path: fuse.path }),
        await client.statfs({ path: fuse.root }),
      ];
      t.like(
        above,
        { type: 0x6573_5546, bsize: below.bsize, blocks: below.blocks },
        'FUSE_SUPER_MAGIC, and the size',
      );
      t.is((await fuse.requests('STATFS')).length, 1);
      await using stranger = await guest.client();
      await stranger.setCredentials({ uid: 4000, gid: 4000 });
      const seen = { type: above.type, blocks: options.allowOther ? below.blocks : 0 };
      t.like(await stranger.statfs({ path: fuse.path }), seen, 'what a stranger sees of it');
      t.is(
        await stranger.errno.stat({ path: fuse.path }),
        options.allowOther ? 'ok' : 'EACCES',
        'and of the root',
      );
    }
  },
);

const MIB = 1024 * KIB;

guestTest('no READ has more than 256 pages, however many the server wants (B25)', async (t, guest) => {
  const init = { maxPages: 0xffff, addFlags: ['MAX_PAGES'] } as const;
  await using fuse = await guest.mountFuse({ init });
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: pattern(MIB + TRANSFER) });
  const fd = await openAs(client, fuse, { name: 'f', mode: 'direct' });
  const calls = [{ call: 'pread', args: { fd, count: MIB + TRANSFER, offset: 0 } }] as const;
  await client.batch({ calls, digests: true });
  const sizes = (await fuse.requests('READ')).map(({ args }) => args['size']);
  t.deepEqual(sizes, [MIB, TRANSFER]);
  await client.close({ fd });
});
