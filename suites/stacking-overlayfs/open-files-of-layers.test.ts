import { bytesLeft } from '../lib/bytes-left.ts';
import { pattern, text } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';
import { mapIds } from '../lib/idmapped.ts';
import { fill, layersOf, over } from '../lib/layers.ts';

/** An open file of an overlay and the one of a layer below it: which one that is, who may have it, how long it lasts. */

const PAGE = 4096;
/** linux/fs.h */
const FICLONE = 0x4004_9409;

/** The position, or the errno of asking for it. */
async function position(client: Client, fd: number): Promise<number | string> {
  const asked = { fd, offset: 0, whence: 'SEEK_CUR' } as const;
  const errno = await client.errno.lseek(asked);
  return errno === 'ok' ? client.lseek(asked) : errno;
}

/** Seeks that fail, of a file of 15 bytes. */
const SEEKS = [
  [{ offset: 1000, whence: 'SEEK_DATA' }, 'ENXIO'],
  [{ offset: 1000, whence: 'SEEK_HOLE' }, 'ENXIO'],
  [{ offset: -1, whence: 'SEEK_SET' }, 'EINVAL'],
  [{ offset: -6, whence: 'SEEK_CUR' }, 'EINVAL'],
  [{ offset: -16, whence: 'SEEK_END' }, 'EINVAL'],
] as const;

guestTest('a seek that fails on an overlay leaves the position where it is', async (t, guest) => {
  await using client = await guest.client();
  const layers = await layersOf(guest, 2);
  await fill(client, layers[0] ?? '', ['f']);
  await fill(client, layers[1] ?? '', ['g']);
  await using overlay = await over(guest, client, layers);
  for (const name of ['f', 'g']) {
    const fd = await client.open({ path: overlay.file(name), flags: 'O_RDONLY' });
    t.is(await client.lseek({ fd, offset: 5, whence: 'SEEK_SET' }), 5);
    for (const [seek, errno] of SEEKS) {
      const what = `${name}, ${seek.whence} ${seek.offset}`;
      t.is(await client.errno.lseek({ fd, ...seek }), errno, what);
      t.is(await position(client, fd), 5, `${what}: the position`);
    }
    t.is(text(await client.read({ fd, count: 6 })), 'the bo', `${name}: what is read from there`);
    await client.close({ fd });
  }
});

guestTest(
  'a mapping of a file of which the metadata alone were copied up shows the data from below (E4)',
  async (t, guest) => {
    await using client = await guest.client();
    const layers = await layersOf(guest, 2);
    const [lower = '', upper = ''] = layers;
    const data = pattern(3 * PAGE);
    await client.writeFile({ path: `${lower}/f`, data });
    const options = 'metacopy=on,redirect_dir=on';
    for (const when of ['copied up', 'mounted again']) {
      await using overlay = await over(guest, client, layers, options);
      if (when === 'copied up') await client.chmod({ path: overlay.file('f'), mode: 0o600 });
      const mark = { path: `${upper}/f`, name: 'trusted.overlay.metacopy' };
      t.is(await client.errno.getxattr(mark), 'ok', `${when}: metadata alone`);
      const fd = await client.open({ path: overlay.file('f'), flags: 'O_RDONLY' });
      for (const flags of ['MAP_SHARED', 'MAP_PRIVATE']) {
        const map = await client.mmap({ fd, length: data.length, prot: 'PROT_READ', flags });
        const seen = await client.mread({ map, offset: 0, length: data.length });
        t.deepEqual(seen, data, `${when}, ${flags}`);
        await client.munmap({ map });
      }
      await client.close({ fd });
    }
  },
);

guestTest(
  'using a file that was copied up since its open holds nothing of the overlay when it is closed',
  async (t, guest) => {
    await using client = await guest.client();
    const layers = await layersOf(guest, 2);
    await fill(client, layers[0] ?? '', ['f']);
    await using overlay = await over(guest, client, layers);
    const path = overlay.file('f');
    const fd = await client.open({ path, flags: 'O_RDONLY' });
    await client.writeFile({ path, data: '!', flags: 'O_WRONLY|O_APPEND' });
    // Each of them opens the upper file, and is to close it again.
    t.is(text(await client.pread({ fd, count: 100, offset: 0 })), 'f at the bottom!', 'read');
    t.is(await client.lseek({ fd, offset: 0, whence: 'SEEK_END' }), 16, 'sought');
    t.is(await client.errno.fsync({ fd }), 'ok', 'synced');
    t.is(await overlay.unmount(), 'EBUSY', 'while it is open');
    await client.close({ fd });
    t.is(await overlay.unmount(), 'ok', 'when it is closed');
  },
);

guestTest('a file of an overlay that becomes a clone is as long at once', async (t, guest) => {
  await using disk = await guest.spareDisk('xfs');
  await using client = await guest.client();
  const [lower, upper, work] = [
    await disk.directory('lower'),
    await disk.directory('upper'),
    await disk.directory('work'),
  ];
  await client.writeFile({ path: `${lower}/from`, data: pattern(3 * PAGE) });
  await using overlay = await guest.mountOverlay({ lower, upper, work }, client);
  const source = await client.open({ path: overlay.file('from'), flags: 'O_RDONLY' });
  for (const before of [0, PAGE]) {
    const fd = await client.open({ path: overlay.file(`clone${before}`), flags: 'O_RDWR|O_CREAT' });
    await client.pwrite({ fd, data: pattern(before), offset: 0 });
    t.is(await bytesLeft(client, fd), before);
    await client.ioctl({ fd, request: FICLONE, arg: source });
    t.is(await bytesLeft(client, fd), 3 * PAGE, `by what the overlay knows, after ${before} bytes`);
    t.is((await client.fstat({ fd })).size, 3 * PAGE, 'by stat');
    await client.close({ fd });
  }
  await client.close({ fd: source });
});

/** The ids of a user namespace; nobody there has any other. */
const IDS = ['0 0 10'];
const [OWNER, KNOWN, UNKNOWN] = [1, 5, 1234];

/** A user namespace with a mount namespace, in which processes start as its root. */
async function namespaceOf(guest: TestGuest, root: Client) {
  const holder = await guest.client({ launcher: ['unshare', '--user', '--mount'] });
  // Who answers is in the namespace: before, the launcher may still be on its way into it.
  await holder.getpid({});
  await mapIds(root, holder.pid, IDS);
  const launcher = ['nsenter', `--target=${holder.pid}`, '--user', '--mount', '--preserve-credentials'];
  return {
    start: () => guest.client({ launcher }),
    [Symbol.asyncDispose]: () => holder[Symbol.asyncDispose](),
  };
}

/** Files of one owner: their group and mode, and what opening them for writing gives their owner. */
const FILES: readonly (readonly [group: number, mode: number, gives: string])[] = [
  [KNOWN, 0o644, 'ok'],
  [UNKNOWN, 0o646, 'ok'],
  [UNKNOWN, 0o644, 'EACCES'],
];

guestTest(
  'a file of the upper layer is opened for writing only if who mounted the overlay may write it',
  async (t, guest) => {
    await using root = await guest.client();
    await using namespace = await namespaceOf(guest, root);
    await using mounter = await namespace.start();
    const layers = await layersOf(guest, 2);
    const upper = layers[1] ?? '';
    await root.chmod({ path: upper, mode: 0o755 });
    for (const gid of [KNOWN, UNKNOWN]) {
      const path = `${upper}/${gid}`;
      await root.mkdir({ path });
      // Whoever makes a file there gives it to that group, which the namespace may not know.
      await root.chown({ path, uid: 0, gid });
      await root.chmod({ path, mode: 0o2777 });
    }
    for (const [gid, mode] of FILES) {
      const path = `${upper}/${gid}/there${mode.toString(8)}`;
      await root.writeFile({ path, data: '' });
      await root.chown({ path, uid: OWNER, gid });
      await root.chmod({ path, mode });
    }
    await using overlay = await over(guest, mounter, layers);
    await using owner = await namespace.start();
    await owner.chdir({ path: overlay.path });
    await owner.setCredentials({ uid: OWNER, gid: OWNER });
    await owner.umask({ mask: 0 });
    for (const [group, mode, gives] of FILES) {
      const what = `group ${group}, mode ${mode.toString(8)}`;
      const open = (name: string, flags: string) =>
        owner.errno.open({ path: `${group}/${name}${mode.toString(8)}`, flags, mode });
      t.is(await open('there', 'O_RDONLY'), 'ok', `${what}: for reading`);
      t.is(await open('there', 'O_WRONLY'), gives, `${what}: for writing`);
      t.is(await open('made', 'O_WRONLY|O_CREAT|O_EXCL'), gives, `${what}: for writing, by who makes it`);
    }
  },
);
