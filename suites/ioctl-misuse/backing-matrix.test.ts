import { backingRows, type BackingKind, type BackingUse } from '../lib/backing-kinds.ts';
import { bytes } from '../lib/bytes.ts';
import type { BatchCall, Client } from '../lib/client.ts';
import type { FdSource } from '../lib/fuse-abi.ts';
import type { FuseMount } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';

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

const FLAGS = ['O_RDONLY', 'O_RDWR', 'O_RDWR|O_DIRECT'] as const;
const RDONLY = { ref: { of: 0 } };
const RDWR = { ref: { of: 1 } };

/** Every open of it, and what can be done with the one that may do most. */
async function use({ guest, client, fuse }: Bench, from: FdSource): Promise<BackingUse> {
  const openFlags = guest.expected.passthroughFlag;
  const first = await fuse.server.registerBacking(from);
  const answers = await Promise.all(
    FLAGS.map(async (_flags, at) => {
      const again = at > 0 && !guest.expected.idsAreReusable;
      return { openFlags, backingId: again ? await fuse.server.registerBacking(from) : first };
    }),
  );
  await Promise.all(answers.map((answer) => fuse.answerOpen('OPEN', answer, 1)));
  const opening = FLAGS.map((flags): BatchCall => {
    return { call: 'open', args: { path: fuse.file('f'), flags } };
  });
  const closing = FLAGS.map((_flags, of): BatchCall => ({ call: 'close', args: { fd: { ref: { of } } } }));
  const onFd = (fd: object): BatchCall[] => [
    { call: 'pread', args: { fd, count: 10, offset: 0 } },
    { call: 'pwrite', args: { fd, data: bytes('written'), offset: 0 } },
  ];
  const map = { fd: RDONLY, length: PAGE, prot: 'PROT_READ', flags: 'MAP_SHARED' };
  const calls: BatchCall[] = [
    ...opening,
    ...onFd(RDONLY),
    ...onFd(RDWR),
    { call: 'mmap', args: map },
    ...closing,
  ];
  const results = (await client.batch({ calls })).map((each) => ('errno' in each ? each.errno : 'ok'));
  const [O_RDONLY = '', O_RDWR = '', direct = '', ...uses] = results;
  const [read = '', write = ''] = O_RDWR === 'ok' ? uses.slice(2) : uses;
  return { opens: { O_RDONLY, O_RDWR, 'O_RDWR|O_DIRECT': direct }, read, write, map: uses[4] ?? '' };
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
      if (row.use === undefined) {
        t.is(await fuse.server.registerErrno(from), row.register, `registering a ${row.kind}`);
        continue;
      }
      t.deepEqual(await use(bench, from), row.use, `a ${row.kind} as backing file`);
    }
    t.deepEqual(await fuse.dataRequests(), []);
  },
);
