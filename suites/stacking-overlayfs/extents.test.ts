import { pattern, text } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';
import { upperOn } from '../lib/stack.ts';

/** Where on the disk data of an overlay are, and what shares them: the file that has the data is asked. */

const PAGE = 4096;
/** linux/fiemap.h: `struct fiemap`, `struct fiemap_extent`, and that what is dirty is written first. */
const FS_IOC_FIEMAP = 0xc020_660b;
const [HEADER, EXTENT, SYNC] = [32, 56, 1];
const ROOM_FOR = 8;
/** An offset that files of ext4 do not reach. */
const BEYOND = 2 ** 62;
/** linux/fs.h */
const FICLONE = 0x4004_9409;
const FICLONERANGE = 0x4020_940d;
const FIDEDUPERANGE = 0xc018_9436;
const OWNER = 1500;
/** FILE_DEDUPE_RANGE_SAME and FILE_DEDUPE_RANGE_DIFFERS, and errnos. */
const [SAME, DIFFERS, EPERM, EINVAL] = [0, 1, -1, -22];

interface Extent {
  readonly logical: bigint;
  readonly physical: bigint;
  readonly length: bigint;
}

/** From `start` to the end or as far as it is said, or the errno. */
async function extentsOf(
  client: Client,
  path: string,
  start = 0,
  length = 2n ** 63n - 1n - BigInt(start),
): Promise<readonly Extent[] | string> {
  const arg = Buffer.alloc(HEADER + ROOM_FOR * EXTENT);
  arg.writeBigUInt64LE(BigInt(start), 0);
  arg.writeBigUInt64LE(length, 8);
  arg.writeUInt32LE(SYNC, 16);
  arg.writeUInt32LE(ROOM_FOR, 24);
  const fd = await client.open({ path, flags: 'O_RDONLY' });
  const request = { fd, request: FS_IOC_FIEMAP, arg: new Uint8Array(arg) };
  const errno = await client.errno.ioctl(request);
  const answer = errno === 'ok' ? Buffer.from((await client.ioctl(request)).arg ?? []) : undefined;
  await client.close({ fd });
  if (answer === undefined) return errno;
  return Array.from({ length: answer.readUInt32LE(20) }, (_none, nth) => {
    const member = (at: number): bigint => answer.readBigUInt64LE(HEADER + nth * EXTENT + at);
    return { logical: member(0), physical: member(8), length: member(16) };
  });
}

/** The first page of one file for that of another: what FIDEDUPERANGE says of it, 0 or an errno below 0. */
async function deduped(client: Client, from: string, to: string): Promise<number> {
  const arg = Buffer.alloc(24 + 32);
  const [source, target] = [
    await client.open({ path: from, flags: 'O_RDONLY' }),
    // For reading: opening a file of the lower layer for writing would copy it up.
    await client.open({ path: to, flags: 'O_RDONLY' }),
  ];
  arg.writeBigUInt64LE(BigInt(PAGE), 8);
  arg.writeUInt16LE(1, 16);
  arg.writeBigInt64LE(BigInt(target), 24);
  const answer = await client.ioctl({ fd: source, request: FIDEDUPERANGE, arg: new Uint8Array(arg) });
  for (const fd of [source, target]) await client.close({ fd });
  return Buffer.from(answer.arg ?? []).readInt32LE(24 + 24);
}

/** Makes a file of the first page of another, by `struct file_clone_range`; what it has then. */
async function partCloned(client: Client, from: string, to: string): Promise<Uint8Array> {
  const source = await client.open({ path: from, flags: 'O_RDONLY' });
  const fd = await client.open({ path: to, flags: 'O_RDWR|O_CREAT' });
  const arg = Buffer.alloc(32);
  arg.writeBigInt64LE(BigInt(source), 0);
  arg.writeBigUInt64LE(BigInt(PAGE), 16);
  await client.ioctl({ fd, request: FICLONERANGE, arg: new Uint8Array(arg) });
  const cloned = await client.pread({ fd, count: 20 * PAGE, offset: 0 });
  for (const each of [fd, source]) await client.close({ fd: each });
  return cloned;
}

/** Two pieces with a hole between them, on the disk. */
async function pieces(client: Client, path: string): Promise<void> {
  const fd = await client.open({ path, flags: 'O_RDWR|O_CREAT' });
  for (const offset of [0, 16 * PAGE]) await client.pwrite({ fd, data: pattern(2 * PAGE), offset });
  await client.fsync({ fd });
  await client.close({ fd });
}

guestTest('FIEMAP on an overlay tells the extents of the file that has the data', async (t, guest) => {
  await using client = await guest.client();
  const lower = await guest.directory('ext4', 'lower');
  const { upper, work } = await upperOn(guest);
  for (const path of [`${lower}/below`, `${lower}/metadata-copied`, `${upper}/above`]) {
    await pieces(client, path);
  }
  await using overlay = await guest.mountOverlay({ lower, upper, work, options: 'metacopy=on' }, client);
  await client.chmod({ path: overlay.file('metadata-copied'), mode: 0o600 });
  t.is(await client.errno.stat({ path: `${upper}/metadata-copied` }), 'ok');
  for (const [name, layer] of [
    ['above', upper],
    ['below', lower],
    ['metadata-copied', lower],
  ] as const) {
    for (const start of [0, 8 * PAGE]) {
      const native = await extentsOf(client, `${layer}/${name}`, start);
      t.deepEqual(await extentsOf(client, overlay.file(name), start), native, `${name}, from ${start}`);
    }
    t.is(await extentsOf(client, overlay.file(name), 0, 0n), 'EINVAL', `${name}, no length`);
    t.is(await extentsOf(client, overlay.file(name), BEYOND), 'EFBIG', `${name}, where no file can be`);
  }
});

guestTest('FIEMAP on an overlay is not supported where the layer does not know it', async (t, guest) => {
  await using client = await guest.client();
  const layers = await upperOn(guest, 'tmpfs');
  await client.writeFile({ path: `${layers.upper}/f`, data: 'on tmpfs' });
  const lower = await guest.directory('ext4', 'lower');
  await using overlay = await guest.mountOverlay({ lower, ...layers }, client);
  t.is(await extentsOf(client, overlay.file('f')), 'EOPNOTSUPP');
  t.is(text(await client.readFile({ path: overlay.file('f') })), 'on tmpfs');
});

/** An overlay whose layers have two files of equal data each. */
async function equalFiles(guest: TestGuest, client: Client, directory: (name: string) => Promise<string>) {
  const [lower, upper, work] = [await directory('lower'), await directory('upper'), await directory('work')];
  for (const path of [`${lower}/low1`, `${lower}/low2`, `${upper}/up1`, `${upper}/up2`]) {
    await pieces(client, path);
  }
  const overlay = await guest.mountOverlay({ lower, upper, work }, client);
  return { overlay, upper };
}

guestTest(
  'files of an overlay can share their data only in the upper layer: nothing is copied up for that',
  async (t, guest) => {
    await using client = await guest.client();
    const { overlay, upper } = await equalFiles(guest, client, (name) => guest.directory('ext4', name));
    await using _overlay = overlay;
    const share = (from: string, to: string): Promise<number> =>
      deduped(client, overlay.file(from), overlay.file(to));
    t.is(await share('low1', 'low2'), EPERM, 'both in the lower layer');
    t.is(await share('low1', 'up2'), EPERM, 'the first in the lower layer');
    t.is(await share('up1', 'low2'), EPERM, 'the second in the lower layer');
    t.is(await share('up1', 'up2'), EINVAL, 'both in the upper layer, whose filesystem cannot share');
    t.deepEqual(await client.readdir({ path: upper }), ['up1', 'up2'], 'nothing was copied up');
  },
);

guestTest('a file of an overlay on XFS can be a clone of another, and share its data', async (t, guest) => {
  await using disk = await guest.spareDisk('xfs');
  await using client = await guest.client();
  const { overlay, upper } = await equalFiles(guest, client, (name) => disk.directory(name));
  await using _overlay = overlay;
  /** Where the first page of a file is on the disk. */
  const place = async (path: string): Promise<bigint> => {
    const extents = await extentsOf(client, path);
    if (typeof extents === 'string' || extents[0] === undefined) throw new Error(`${path} has no extents`);
    return extents[0].physical;
  };
  for (const [name, layer] of [
    ['low1', 'lower'],
    ['up1', 'upper'],
  ] as const) {
    const source = await client.open({ path: overlay.file(name), flags: 'O_RDONLY' });
    const path = overlay.file(`clone-of-${name}`);
    const fd = await client.open({ path, flags: 'O_RDWR|O_CREAT' });
    await client.ioctl({ fd, request: FICLONE, arg: source });
    t.is((await client.fstat({ fd })).size, 18 * PAGE, `of the ${layer} layer: its size at once`);
    const contents = await client.pread({ fd, count: 2 * PAGE, offset: 16 * PAGE });
    t.deepEqual(contents, pattern(2 * PAGE), `of the ${layer} layer: its data`);
    t.is(await place(path), await place(overlay.file(name)), `of the ${layer} layer: shared`);
    for (const each of [fd, source]) await client.close({ fd: each });
  }
  t.deepEqual(await partCloned(client, overlay.file('up1'), overlay.file('part')), pattern(PAGE), 'a part');
  t.is(await deduped(client, overlay.file('up1'), overlay.file('up2')), SAME, 'FIDEDUPERANGE');
  t.is(await place(`${upper}/up2`), await place(`${upper}/up1`), 'FIDEDUPERANGE: the first page is shared');
});

guestTest(
  'cloning to a file of an overlay takes the setuid bit away, sharing its data does not',
  async (t, guest) => {
    await using disk = await guest.spareDisk('xfs');
    await using client = await guest.client();
    const { overlay, upper } = await equalFiles(guest, client, (name) => disk.directory(name));
    await using _overlay = overlay;
    await using owner = await guest.client();
    await owner.chdir({ path: overlay.path });
    await client.chown({ path: `${upper}/up2`, uid: OWNER, gid: OWNER });
    await client.chmod({ path: `${upper}/up1`, mode: 0o644 });
    const mode = async () => ((await client.stat({ path: `${upper}/up2` })).mode & 0o7777).toString(8);
    await client.chmod({ path: overlay.file('up2'), mode: 0o4755 });
    await owner.setCredentials({ uid: OWNER, gid: OWNER });
    t.is(await deduped(owner, 'up1', 'up2'), SAME);
    t.is(await mode(), '4755', 'the data are what they were');
    const source = await owner.open({ path: 'up1', flags: 'O_RDONLY' });
    const fd = await owner.open({ path: 'up2', flags: 'O_RDWR' });
    await owner.ioctl({ fd, request: FICLONE, arg: source });
    t.is(await mode(), '755', 'cloned');
    for (const each of [fd, source]) await owner.close({ fd: each });
  },
);

/** Files of pages with one letter each. */
const letters = (text: string): Uint8Array =>
  new Uint8Array(Buffer.from(Array.from(text, (each) => each.repeat(PAGE)).join('')));

guestTest(
  'a part of a file of an overlay on XFS is cloned or shared from where it is to where it is wanted',
  async (t, guest) => {
    await using disk = await guest.spareDisk('xfs');
    await using client = await guest.client();
    const [lower, upper, work] = [
      await disk.directory('lower'),
      await disk.directory('upper'),
      await disk.directory('work'),
    ];
    for (const [name, pages] of Object.entries({ from: 'abcdef', to: 'ABCDEF', like: 'ghbcij' })) {
      await client.writeFile({ path: `${upper}/${name}`, data: letters(pages) });
    }
    await using overlay = await guest.mountOverlay({ lower, upper, work }, client);
    const source = await client.open({ path: overlay.file('from'), flags: 'O_RDONLY' });
    const words = (...of: readonly number[]) => {
      const arg = Buffer.alloc(8 * of.length);
      for (const [nth, word] of of.entries()) arg.writeBigInt64LE(BigInt(word), 8 * nth);
      return new Uint8Array(arg);
    };
    const fd = await client.open({ path: overlay.file('to'), flags: 'O_RDWR' });
    // `struct file_clone_range`: pages 1 and 2 to page 3.
    await client.ioctl({ fd, request: FICLONERANGE, arg: words(source, PAGE, 2 * PAGE, 3 * PAGE) });
    t.deepEqual(await client.readFile({ path: overlay.file('to') }), letters('ABCbcF'), 'cloned');
    // `struct file_dedupe_range`, and one `struct file_dedupe_range_info`.
    const like = await client.open({ path: overlay.file('like'), flags: 'O_RDWR' });
    const share = async (at: number, length: number, where: number) => {
      const arg = words(at * PAGE, length * PAGE, 1, like, where * PAGE, 0, 0);
      const answer = Buffer.from((await client.ioctl({ fd: source, request: FIDEDUPERANGE, arg })).arg ?? []);
      return { shared: Number(answer.readBigUInt64LE(40)) / PAGE, status: answer.readInt32LE(48) };
    };
    // XFS shares whole blocks alone, and takes what is asked for as far as there are some.
    t.is((await share(1, 1.5, 2)).status, SAME, 'the same, a block and a half');
    t.deepEqual(await share(1, 2, 2), { shared: 2, status: SAME }, 'the same');
    t.deepEqual(await share(2, 1, 1), { shared: 0, status: DIFFERS }, 'not the same');
    t.deepEqual(await client.readFile({ path: overlay.file('like') }), letters('ghbcij'), 'as it was');
    for (const each of [source, fd, like]) await client.close({ fd: each });
  },
);

guestTest(
  'a copy-up on XFS shares the data of the lower file, on ext4 it copies them (E4)',
  async (t, guest) => {
    await using disk = await guest.spareDisk('xfs');
    await using client = await guest.client();
    for (const [directory, shares] of [
      [(name: string) => disk.directory(name), true],
      [(name: string) => guest.directory('ext4', name), false],
    ] as const) {
      const { overlay, upper } = await equalFiles(guest, client, directory);
      await using _overlay = overlay;
      const path = overlay.file('low1');
      const below = await extentsOf(client, path);
      await client.chmod({ path, mode: 0o600 });
      t.is((await client.stat({ path: `${upper}/low1` })).size, 18 * PAGE);
      const above = await extentsOf(client, `${upper}/low1`);
      if (typeof below === 'string' || typeof above === 'string') throw new Error('no extents');
      const places = [above, below].map((extents) => extents.map(({ physical }) => physical));
      if (shares) t.deepEqual(places[0], places[1], 'on XFS');
      else t.notDeepEqual(places[0], places[1], 'on ext4');
      const contents = await client.readFile({ path });
      t.deepEqual(contents.subarray(16 * PAGE), pattern(2 * PAGE), 'the data');
    }
  },
);
