import { text } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import { ATTR, ATTR_OUT, u32 } from '../lib/entry-answer.ts';
import type { FuseMount, FuseOptions } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';
import { mountWritebackCache } from '../lib/writeback-cache.ts';

/** What the server has said to be something else than it was, and what is still open or mapped of it: EIO for good. */

const PAGE = 4096;
/** Longer than any test. Seconds. */
const LONG = 100_000;
const FIFO = 0o010_644;
/** open(2): a descriptor of the link itself. */
const ITSELF = 'O_PATH|O_NOFOLLOW';

/** Has an answer say that it is a fifo by now. */
async function spoil(client: Client, fuse: FuseMount, fd: number): Promise<string> {
  const action = { do: 'patch', at: ATTR_OUT.attr + ATTR.mode, bytes: u32(FIFO) } as const;
  const takeBack = await fuse.rule({ match: { opcode: 'GETATTR' }, action });
  const errno = await client.errno.fstat({ fd, flags: 'AT_STATX_FORCE_SYNC' });
  await takeBack();
  return errno;
}

interface Kind {
  readonly make: (client: Client, path: string) => Promise<unknown>;
  readonly flags: string;
  /** What is done with it while it is open. */
  readonly calls: Readonly<Record<string, (client: Client, fd: number) => Promise<string>>>;
}

const KINDS: Readonly<Record<string, Kind>> = {
  directory: {
    make: (client, path) => client.mkdir({ path }),
    flags: 'O_RDONLY|O_DIRECTORY',
    calls: {
      fsync: (client, fd) => client.errno.fsync({ fd }),
      getdents: (client, fd) => client.errno.readdirFd({ fd, bytes: 1000 }),
      fstat: (client, fd) => client.errno.fstat({ fd }),
      fchmod: (client, fd) => client.errno.fchmod({ fd, mode: 0o700 }),
      'a name in it': (client, fd) => client.errno.stat({ dirfd: fd, path: 'f' }),
      'a new name in it': (client, fd) => client.errno.mkdir({ dirfd: fd, path: 'new' }),
      'another open': (client, fd) =>
        client.errno.open({ path: `/proc/self/fd/${fd}`, flags: 'O_RDONLY|O_DIRECTORY' }),
    },
  },
  'symbolic link': {
    make: (client, path) => client.symlink({ target: 'anywhere', path }),
    flags: ITSELF,
    calls: {
      readlink: (client, fd) => client.errno.readlink({ dirfd: fd, path: '' }),
      fstat: (client, fd) => client.errno.fstat({ fd }),
    },
  },
  'regular file': {
    make: (client, path) => client.writeFile({ path, data: 'contents' }),
    flags: 'O_RDWR',
    calls: {
      read: (client, fd) => client.errno.pread({ fd, count: 1, offset: 0 }),
      'a close': async (client, fd) => client.errno.close({ fd: await client.dup({ fd }) }),
      'another open': (client, fd) => client.errno.open({ path: `/proc/self/fd/${fd}`, flags: 'O_RDONLY' }),
      access: (client, fd) => client.errno.access({ path: `/proc/self/fd/${fd}`, mode: 'R_OK' }),
    },
  },
};

for (const [kind, { make, flags, calls }] of Object.entries(KINDS)) {
  guestTest(
    `an open ${kind} that is something else by now is EIO, and the server is not asked`,
    async (t, guest) => {
      await using fuse = await guest.mountFuse({ passthrough: 'off' });
      await using client = await guest.client();
      await make(client, fuse.backing('x'));
      const fd = await client.open({ path: fuse.file('x'), flags });
      for (const [what, call] of Object.entries(calls)) {
        t.not(await call(client, fd), 'EIO', `${what}, while it is what it was`);
      }
      t.is(await spoil(client, fuse, fd), 'EIO');
      const after = await fuse.position();
      for (const [what, call] of Object.entries(calls)) t.is(await call(client, fd), 'EIO', what);
      t.deepEqual(await fuse.opcodes({ after }), []);
      await client.errno.close({ fd });
    },
  );
}

async function cachedFile(
  guest: TestGuest,
  client: Client,
  options: FuseOptions,
): Promise<[FuseMount, number]> {
  const fuse = await mountWritebackCache(guest, { attrValidS: LONG, entryValidS: LONG, ...options });
  await client.writeFile({ path: fuse.backing('f'), data: 'o'.repeat(2 * PAGE) });
  return [fuse, await client.open({ path: fuse.file('f'), flags: 'O_RDWR' })];
}

guestTest('of a mapped file that is something else by now no further page is read', async (t, guest) => {
  await using client = await guest.client();
  const [fuse, fd] = await cachedFile(guest, client, {});
  await using _fuse = fuse;
  await client.posix_fadvise({ fd, offset: 0, length: 0, advice: 'POSIX_FADV_RANDOM' });
  const how = { fd, length: 2 * PAGE, prot: 'PROT_READ', flags: 'MAP_SHARED' } as const;
  const map = await client.mmap(how);
  await client.madvise({ map, advice: 'MADV_RANDOM' });
  t.is(text(await client.mread({ map, offset: 0, length: 1 })), 'o');
  t.is(await spoil(client, fuse, fd), 'EIO');
  t.is(text(await client.mread({ map, offset: 1, length: 1 })), 'o', 'a page that is there');
  const after = await fuse.position();
  client.errno.mread({ map, offset: PAGE, length: 1 }).catch(() => undefined);
  t.like(await client.exited(), { signal: 'SIGBUS' }, 'one that is not');
  t.deepEqual(await fuse.opcodes({ opcode: 'READ', after }), []);
});

guestTest('of a file that is something else by now nothing is written back', async (t, guest) => {
  await using client = await guest.client();
  const [fuse, fd] = await cachedFile(guest, client, {});
  await using _fuse = fuse;
  await client.pwrite({ fd, data: 'n'.repeat(PAGE), offset: 0 });
  t.is(await spoil(client, fuse, fd), 'EIO');
  const sync = { fd, offset: 0, length: 0, flags: 'SYNC_FILE_RANGE_WRITE' };
  t.is(await client.errno.sync_file_range(sync), 'EIO');
  await client.errno.close({ fd });
  await fuse.waitFor('RELEASE', 'arrived');
  t.deepEqual(await fuse.opcodes('WRITE'), []);
  const stored = text(await client.readFile({ path: fuse.backing('f') }));
  t.is(stored.replaceAll('o', ''), '', 'what the server has');
});
