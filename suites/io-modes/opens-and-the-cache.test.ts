import { firstDifference, pattern, text } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import { OpenFlag } from '../lib/fuse-abi.ts';
import type { FuseMount, FuseOptions } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';
import { WRITEBACK_CACHE } from '../lib/writeback-cache.ts';

/** What an open, or a write, does to pages and attributes that the kernel has of a file already. */

const PAGE = 4096;
/** Longer than any test. Seconds. */
const LONG = 100_000;

/** A file of 12 bytes that is open and of which the kernel has pages and attributes. */
async function knownFile(
  guest: TestGuest,
  client: Client,
  init: NonNullable<FuseOptions['init']> = {},
): Promise<{ fuse: FuseMount; fd: number }> {
  const fuse = await guest.mountFuse({
    passthrough: 'off',
    attrValidS: LONG,
    entryValidS: LONG,
    init: { ...init, dropFlags: ['AUTO_INVAL_DATA', ...(init.dropFlags ?? [])] },
  });
  await fuse.answerOpen('OPEN', { openFlags: OpenFlag.KEEP_CACHE });
  await client.writeFile({ path: fuse.backing('f'), data: 'old contents' });
  const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
  await client.pread({ fd, count: 12, offset: 0 });
  return { fuse, fd };
}

guestTest(
  'where O_TRUNC is a SETATTR that the server refuses the file stays as long as it was, and in the cache',
  async (t, guest) => {
    await using client = await guest.client();
    const { fuse, fd } = await knownFile(guest, client, { dropFlags: ['ATOMIC_O_TRUNC'] });
    await using _fuse = fuse;
    const after = await fuse.position();
    await fuse.fail('SETATTR', 'EDQUOT', 1);
    t.is(await client.errno.open({ path: fuse.file('f'), flags: 'O_WRONLY|O_TRUNC' }), 'EDQUOT');
    t.deepEqual(await fuse.opcodes({ opcode: ['OPEN', 'SETATTR'], after }), ['OPEN', 'SETATTR']);
    t.is(
      (await client.fstat({ fd, flags: 'AT_STATX_DONT_SYNC' })).size,
      12,
      'the size that the kernel knows',
    );
    t.is(text(await client.pread({ fd, count: 12, offset: 0 })), 'old contents');
    t.deepEqual(await fuse.opcodes({ opcode: 'READ', after }), [], 'the pages are there still');
    await client.close({ fd });
  },
);

guestTest(
  'an open that does not keep the cache renews what is mapped, and one that keeps it does not',
  async (t, guest) => {
    await using client = await guest.client();
    await using other = await guest.client();
    for (const [openFlags, seen] of [
      [OpenFlag.KEEP_CACHE, 'old contents'],
      [0, 'NEW CONTENTS'],
    ] as const) {
      const { fuse, fd } = await knownFile(guest, client);
      await using _fuse = fuse;
      const map = await client.mmap({ fd, length: PAGE, prot: 'PROT_READ', flags: 'MAP_SHARED' });
      t.is(text(await client.mread({ map, offset: 0, length: 12 })), 'old contents');
      await client.writeFile({ path: fuse.backing('f'), data: 'NEW CONTENTS', flags: 'O_WRONLY' });
      await fuse.answerOpen('OPEN', { openFlags }, 1);
      const again = await other.open({ path: fuse.file('f'), flags: 'O_RDONLY' });
      const what = openFlags === 0 ? 'without KEEP_CACHE' : 'with KEEP_CACHE';
      t.is(text(await client.mread({ map, offset: 0, length: 12 })), seen, `${what}: what the mapping shows`);
      t.is(text(await other.pread({ fd: again, count: 12, offset: 0 })), seen, `${what}: what is read`);
      await client.munmap({ map });
      await other.close({ fd: again });
      await client.close({ fd });
    }
  },
);

/** `STATX_*` of linux/stat.h that a change of the data makes outdated. */
const OUTDATED = {
  'the time of change': 0x40,
  'the time of change of attributes': 0x80,
  'the size': 0x200,
  'how many blocks it has': 0x400,
} as const;

type Change = (client: Client, at: { fuse: FuseMount; fd: number; direct: number }) => Promise<unknown>;

/** Ways to change the data of a file, each without asking for attributes. */
const CHANGES: Readonly<Record<string, Change>> = {
  'an open with O_TRUNC': async (client, { fuse }) =>
    client.close({ fd: await client.open({ path: fuse.file('f'), flags: 'O_WRONLY|O_TRUNC' }) }),
  'a cached write': (client, { fd }) => client.pwrite({ fd, data: 'new', offset: 0 }),
  'a direct write': (client, { direct }) => client.pwrite({ fd: direct, data: 'new', offset: 0 }),
};

guestTest(
  'after a change of the data each thing that it has changed is asked for by itself, and the time of access is not',
  async (t, guest) => {
    await using client = await guest.client();
    const { fuse, fd } = await knownFile(guest, client);
    await using _fuse = fuse;
    await fuse.answerOpen('OPEN', { openFlags: OpenFlag.DIRECT_IO | OpenFlag.KEEP_CACHE }, 1);
    const direct = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
    const path = fuse.file('f');
    for (const [change, make] of Object.entries(CHANGES)) {
      const asked = async (mask: number): Promise<string[]> => {
        await client.fstat({ fd, flags: 'AT_STATX_FORCE_SYNC' });
        await make(client, { fuse, fd, direct });
        const after = await fuse.position();
        await client.stat({ path, mask });
        return fuse.opcodes({ opcode: 'GETATTR', after });
      };
      for (const [what, mask] of Object.entries(OUTDATED)) {
        t.deepEqual(await asked(mask), ['GETATTR'], `${change}: ${what}`);
      }
      t.deepEqual(await asked(0x20), [], `${change}: the time of access`);
    }
    for (const each of [direct, fd]) await client.close({ fd: each });
  },
);

/** Where in its page a write ends or begins, on a page that is not in the cache. */
const PARTS = {
  'its beginning': [0, 1000],
  'its middle': [1000, 2000],
  'its end': [1000, PAGE],
  'all but its first byte': [1, PAGE],
  'all but its last byte': [0, PAGE - 1],
} as const;

guestTest(
  'of a page of which a part is written through the cache the rest is read as the server has it',
  async (t, guest) => {
    await using fuse = await guest.mountFuse({ passthrough: 'off', attrValidS: LONG });
    await using client = await guest.client();
    for (const [what, [from, to]] of Object.entries(PARTS)) {
      const wanted = pattern(3 * PAGE);
      await client.writeFile({ path: fuse.backing(what), data: wanted });
      const fd = await client.open({ path: fuse.file(what), flags: 'O_RDWR' });
      wanted.fill(7, PAGE + from, PAGE + to);
      await client.pwrite({ fd, data: wanted.subarray(PAGE + from, PAGE + to), offset: PAGE + from });
      const seen = await client.pread({ fd, count: 3 * PAGE, offset: 0 });
      t.is(firstDifference(seen, wanted), undefined, `${what} was written`);
      await client.close({ fd });
    }
  },
);

interface Grows {
  readonly init: NonNullable<FuseOptions['init']>;
  /** Makes the empty file longer, and what its first 12 bytes are then. */
  readonly grow: (client: Client, at: { fuse: FuseMount; fd: number }) => Promise<unknown>;
  readonly wanted: string;
}

/** Ways for a file to become longer by which no page leaves the cache. */
const GROWTHS: Readonly<Record<string, Grows>> = {
  'a write that waits in the cache': {
    init: WRITEBACK_CACHE,
    grow: (client, { fd }) => client.pwrite({ fd, data: 'new', offset: PAGE }),
    wanted: '\0'.repeat(12),
  },
  'the server, which says itself what is not valid any more': {
    init: { addFlags: ['EXPLICIT_INVAL_DATA'] },
    grow: async (client, { fuse, fd }) => {
      await client.writeFile({ path: fuse.backing('f'), data: 'NEW CONTENTS' });
      await client.fstat({ fd, flags: 'AT_STATX_FORCE_SYNC' });
    },
    wanted: 'NEW CONTENTS',
  },
};

guestTest(
  'of a file that an open has emptied nothing stays in the cache, whatever makes it longer then',
  async (t, guest) => {
    await using client = await guest.client();
    for (const [what, { init, grow, wanted }] of Object.entries(GROWTHS)) {
      const { fuse, fd } = await knownFile(guest, client, init);
      await using _fuse = fuse;
      await client.close({ fd: await client.open({ path: fuse.file('f'), flags: 'O_WRONLY|O_TRUNC' }) });
      t.is((await client.fstat({ fd, flags: 'AT_STATX_DONT_SYNC' })).size, 0, `${what}: empty`);
      await grow(client, { fuse, fd });
      t.is(text(await client.pread({ fd, count: 12, offset: 0 })), wanted, `longer by ${what}`);
      await client.close({ fd });
    }
  },
);

guestTest(
  'an open for direct I/O that does not keep the cache empties it for those who have the file cached',
  async (t, guest) => {
    await using client = await guest.client();
    const { fuse, fd } = await knownFile(guest, client);
    await using _fuse = fuse;
    for (const [openFlags, asked] of [
      [OpenFlag.DIRECT_IO | OpenFlag.KEEP_CACHE, []],
      [OpenFlag.DIRECT_IO, ['READ']],
    ] as const) {
      await fuse.answerOpen('OPEN', { openFlags }, 1);
      await client.close({ fd: await client.open({ path: fuse.file('f'), flags: 'O_RDONLY' }) });
      const after = await fuse.position();
      t.is(text(await client.pread({ fd, count: 3, offset: 0 })), 'old');
      const keeps = openFlags === OpenFlag.DIRECT_IO ? 'without KEEP_CACHE' : 'with KEEP_CACHE';
      t.deepEqual(await fuse.opcodes({ opcode: 'READ', after }), [...asked], `a cached read, ${keeps}`);
    }
    await client.close({ fd });
  },
);
