import { firstDifference, pattern, text } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import { guestTest } from '../lib/guest-test.ts';
import { needsMappings } from '../lib/registration.ts';
import { Stack, upperOn, type Layer } from '../lib/stack.ts';
import { needsMaxStackDepth } from '../lib/stack-depth.ts';

/** Stacks of two, the lower one first, whose mappings have two files below the one that was opened. */
const PAIRS: readonly (readonly [Layer, Layer])[] = [
  ['overlayfs', 'overlayfs'],
  ['FUSE', 'overlayfs'],
  ['overlayfs', 'FUSE'],
  ['FUSE', 'FUSE'],
];

/** What /proc/PID/maps calls the file that is mapped there. */
async function mappedPath(client: Client, path: string): Promise<string | undefined> {
  const fd = await client.open({ path, flags: 'O_RDONLY' });
  const map = await client.mmap({ fd, length: 4096, prot: 'PROT_READ', flags: 'MAP_SHARED' });
  const maps = text(await client.readFile({ path: `/proc/${client.pid}/maps` }));
  await client.munmap({ map });
  await client.close({ fd });
  const name = path.slice(path.lastIndexOf('/'));
  return maps
    .split('\n')
    .find((line) => line.endsWith(name))
    ?.split(/\s+/)
    .at(-1);
}

guestTest.alone(
  '/proc/PID/maps names the path that was opened, however many files are below (A19, K16, K17)',
  async (t, guest) => {
    needsMappings(guest);
    guest.needs(guest.expected.mappingPath === 'fuse', 'path of FUSE in /proc/PID/maps');
    await using client = await guest.client();
    for (const [index, pair] of PAIRS.entries()) {
      await using stack = await Stack.build(guest, client, pair);
      const path = stack.file(`mapped-${index}`);
      await client.writeFile({ path, data: pattern(4096) });
      t.is(await mappedPath(client, path), path, stack.name);
      for (const fuse of stack.fuses) t.deepEqual(await fuse.dataRequests(), [], stack.name);
    }
  },
);

guestTest.alone(
  'inotify on overlayfs tells of its own files, and FUSE below it of the same reads (E20)',
  async (t, guest) => {
    needsMaxStackDepth(guest);
    await using client = await guest.client();
    await using fuse = await guest.mountFuse({ init: { maxStackDepth: 1 } });
    await client.writeFile({ path: fuse.backing('f'), data: pattern(100) });
    await using overlay = await guest.mountOverlay({ lower: fuse.path, ...(await upperOn(guest)) }, client);
    const fd = await client.open({ path: overlay.file('f'), flags: 'O_RDONLY' });
    const watch = await client.inotify_init({});
    const above = await client.inotify_add_watch({
      fd: watch,
      path: overlay.file('f'),
      mask: 'IN_ACCESS|IN_MODIFY',
    });
    const below = await client.inotify_add_watch({
      fd: watch,
      path: fuse.backing('f'),
      mask: 'IN_ACCESS|IN_MODIFY',
    });
    await client.pread({ fd, count: 10, offset: 0 });
    const seen = (await client.inotify_read({ fd: watch })).map((event) => [event.watch, event.names]);
    t.deepEqual(
      seen.sort(),
      [
        [above, 'access'],
        [below, 'access'],
      ].sort(),
    );
    await client.close({ fd });
    t.deepEqual(await fuse.dataRequests(), []);
  },
);

guestTest.alone(
  'fsync on overlayfs reaches the FUSE server of its upper layer, for data alone where that is asked (E19)',
  async (t, guest) => {
    needsMaxStackDepth(guest);
    await using client = await guest.client();
    await using fuse = await guest.mountFuse({ init: { maxStackDepth: 1 } });
    for (const name of ['upper', 'work']) await client.mkdir({ path: fuse.backing(name) });
    const lower = await guest.directory('ext4', 'lower');
    const layers = { lower, upper: fuse.file('upper'), work: fuse.file('work') };
    await using overlay = await guest.mountOverlay(layers, client);
    const fd = await client.open({ path: overlay.file('f'), flags: 'O_RDWR|O_CREAT' });
    await client.pwrite({ fd, data: pattern(5000), offset: 0 });
    for (const [call, flag] of [
      ['fdatasync', 1],
      ['fsync', 0],
    ] as const) {
      const after = await fuse.position();
      await client[call]({ fd });
      const requests = await fuse.requests({ opcode: 'FSYNC', after });
      t.deepEqual(
        requests.map(({ args }) => args['fsync_flags']),
        [flag],
        call,
      );
      await using _takenBack = { [Symbol.asyncDispose]: await fuse.fail('FSYNC', 'EIO') };
      t.is(await client.errno[call]({ fd }), 'EIO', `${call}: an error is told`);
    }
    await client.close({ fd });
    t.deepEqual(await fuse.dataRequests(), []);
  },
);

guestTest.alone('device and inode numbers are FUSE’s own and stay with the file (E18)', async (t, guest) => {
  await using client = await guest.client();
  const lower = await guest.directory('ext4', 'lower');
  await client.writeFile({ path: `${lower}/f`, data: 'lower' });
  await using overlay = await guest.mountOverlay({ lower, ...(await upperOn(guest)) }, client);
  await using fuse = await guest.mountFuse({ root: overlay.path, init: { maxStackDepth: 2 } });
  const number = async (path: string) => {
    const { devMajor, devMinor, ino } = await client.stat({ path });
    return { device: `${devMajor}:${devMinor}`, ino };
  };
  const [before, below] = [await number(fuse.file('f')), await number(overlay.file('f'))];
  t.not(before.device, below.device);
  const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
  await client.pwrite({ fd, data: 'upper', offset: 0 });
  const open = await client.fstat({ fd });
  t.deepEqual({ device: `${open.devMajor}:${open.devMinor}`, ino: open.ino }, before, 'fstat after copy-up');
  await client.rename({ from: fuse.file('f'), to: fuse.file('g') });
  t.deepEqual(await number(fuse.file('g')), before, 'after a rename');
  t.deepEqual(await number(overlay.file('g')), below, 'on overlayfs as well');
  await client.close({ fd });
  t.deepEqual(await fuse.dataRequests(), []);
});

guestTest.alone(
  'a filesystem in a passthrough file is mounted, and its files are backing files (E22, E23, A46)',
  async (t, guest) => {
    await using client = await guest.client();
    await using outer = await guest.mountFuse();
    const image = outer.file('image');
    const fd = await client.open({ path: image, flags: 'O_RDWR|O_CREAT' });
    await client.ftruncate({ fd, length: 8 * 1024 * 1024 });
    await client.close({ fd });
    // Small blocks: a file of the inner filesystem is not aligned to pages of the outer one.
    await guest.run(['mkfs.ext4', '-q', '-F', '-b', '1024', '-O', '^has_journal', '-E', 'nodiscard', image]);
    const inner = await guest.directory('area', 'inner');
    await guest.run(['mount', '-o', 'loop', image, inner]);
    try {
      await using fuse = await guest.mountFuse({ root: inner });
      const data = pattern(300_000);
      const file = await client.open({ path: fuse.file('f'), flags: 'O_RDWR|O_CREAT' });
      await client.pwrite({ fd: file, data, offset: 0 });
      await client.fsync({ fd: file });
      t.is(firstDifference(await client.pread({ fd: file, count: 400_000, offset: 0 }), data), undefined);
      await client.close({ fd: file });
      t.deepEqual(await fuse.dataRequests(), []);
      await fuse.unmount();
      await guest.run(['umount', inner]);
      t.regex((await guest.tryRun(['e2fsck', '-fn', image])).stdout, /image: \d+\/\d+ files/, 'it is whole');
      await guest.run(['mount', '-o', 'loop,ro', image, inner]);
      t.is(firstDifference(await client.readFile({ path: `${inner}/f` }), data), undefined, 'mounted again');
    } finally {
      await guest.run(['umount', inner]);
    }
    // Not READ: the readahead that e2fsck asks for goes to the server (A33).
    t.deepEqual(await outer.requests('WRITE'), []);
  },
);
