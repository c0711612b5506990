import { backingRows, type BackingKind, type BackingUse } from '../lib/backing-kinds.ts';
import { SyscallError, type Client } from '../lib/client.ts';
import type { FdSource } from '../lib/fuse-abi.ts';
import type { FuseMount } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';
import { openWithId } from '../lib/registration.ts';

const PAGE = 4096;
const FIFO = 0o010_644;
const BLOCK_DEVICE = 0o060_644;
const LOOP_MAJOR = 7;

interface Bench {
  readonly guest: TestGuest;
  readonly client: Client;
  readonly fuse: FuseMount;
  /** A directory on tmpfs. */
  readonly tmpfs: string;
}

const REGULAR = { data: new Uint8Array(PAGE) };

/** Makes one of the kind; `path` is a fresh name on ext4. */
const MAKERS: Readonly<Record<BackingKind, (bench: Bench, path: string) => Promise<FdSource> | FdSource>> = {
  'file on ext4': async ({ client }, path) => {
    await client.writeFile({ path, ...REGULAR });
    return { path, flags: 'O_RDWR' };
  },
  'O_PATH descriptor': async ({ client }, path) => {
    await client.writeFile({ path, ...REGULAR });
    return { path, flags: 'O_PATH' };
  },
  'file on tmpfs': async ({ client, tmpfs }) => {
    await client.writeFile({ path: `${tmpfs}/f`, ...REGULAR });
    return { path: `${tmpfs}/f`, flags: 'O_RDWR' };
  },
  'unlinked file': async ({ client }, path) => {
    const fd = await client.open({ path, flags: 'O_RDWR|O_CREAT' });
    await client.unlink({ path });
    return filled(client, fd);
  },
  'file without a name': async ({ client, fuse }) => {
    return filled(client, await client.open({ path: fuse.root, flags: 'O_TMPFILE|O_RDWR', mode: 0o600 }));
  },
  memfd: async ({ client }) => filled(client, await client.memfd_create({ name: 'backing' })),
  'memfd of huge pages': async ({ client }) => {
    return { pid: client.pid, fd: await client.memfd_create({ name: 'huge', flags: 'MFD_HUGETLB' }) };
  },
  'file of sysfs': () => ({ path: '/sys/kernel/uevent_seqnum', flags: 'O_RDONLY' }),
  'file of procfs': () => ({ path: '/proc/version', flags: 'O_RDONLY' }),
  directory: ({ fuse }) => ({ path: fuse.root, flags: 'O_RDONLY|O_DIRECTORY' }),
  'symbolic link': async ({ client }, path) => {
    await client.symlink({ target: 'f', path });
    return { path, flags: 'O_PATH|O_NOFOLLOW' };
  },
  'named pipe': async ({ client }, path) => {
    await client.mknod({ path, mode: FIFO });
    return { path, flags: 'O_RDWR' };
  },
  'block device': async ({ client }, path) => {
    await client.mknod({ path, mode: BLOCK_DEVICE, major: LOOP_MAJOR, minor: 0 });
    return { path, flags: 'O_RDONLY' };
  },
  'character device': () => ({ path: '/dev/zero', flags: 'O_RDWR' }),
  pipe: () => ({ special: 'pipe' }),
  socket: () => ({ special: 'socket' }),
  eventfd: () => ({ special: 'eventfd' }),
  'closed descriptor': () => ({ fd: 9999 }),
};

async function filled(client: Client, fd: number): Promise<FdSource> {
  await client.write({ fd, ...REGULAR });
  return { pid: client.pid, fd };
}

/** `register` gives an id for one open: the same as before, where ids last. */
async function openOn(
  { guest, client, fuse }: Bench,
  register: () => Promise<number>,
  flags: string,
): Promise<number | string> {
  try {
    return await openWithId(guest, client, { fuse, id: await register(), flags });
  } catch (error) {
    if (error instanceof SyscallError) return error.errno;
    throw error;
  }
}

const FLAGS = ['O_RDONLY', 'O_RDWR', 'O_RDWR|O_DIRECT'] as const;

async function use(bench: Bench, from: FdSource): Promise<BackingUse> {
  const { client, fuse, guest } = bench;
  const id = await fuse.server.registerBacking(from);
  const register = (): Promise<number> => {
    return guest.expected.idsAreReusable ? Promise.resolve(id) : fuse.server.registerBacking(from);
  };
  const opened = new Map<string, number>();
  const opens = { O_RDONLY: '', O_RDWR: '', 'O_RDWR|O_DIRECT': '' };
  for (const flags of FLAGS) {
    const fd = await openOn(bench, register, flags);
    opens[flags] = typeof fd === 'number' ? 'ok' : fd;
    if (typeof fd === 'number') opened.set(flags, fd);
  }
  const fd = opened.get('O_RDWR') ?? opened.get('O_RDONLY') ?? -1;
  const map = { length: PAGE, prot: 'PROT_READ', flags: 'MAP_SHARED' };
  const outcome = {
    opens,
    read: await client.errno.pread({ fd, count: 10, offset: 0 }),
    write: await client.errno.pwrite({ fd, data: 'written', offset: 0 }),
    map: await client.errno.mmap({ fd, ...map }),
  };
  for (const each of opened.values()) await client.close({ fd: each });
  return outcome;
}

guestTest(
  'a backing file of any kind is refused, or opened, read, written and mapped, as its row says (B7, B8, B11, B27)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse({ passthrough: 'off' });
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'what the server has' });
    const bench = { guest, client, fuse, tmpfs: await guest.directory('tmpfs') };
    for (const row of backingRows(guest.expected)) {
      const from = await MAKERS[row.kind](bench, fuse.backing(row.kind.replaceAll(' ', '-')));
      t.is(await fuse.server.registerErrno(from), row.register, `registering a ${row.kind}`);
      if (row.use === undefined) continue;
      t.deepEqual(await use(bench, from), row.use, `a ${row.kind} as backing file`);
    }
    t.deepEqual(await fuse.dataRequests(), []);
  },
);
