import { bytes, firstDifference, pattern } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';

/** What a file that a FUSE server serves from ecryptfs is on the disk. */

const PAGE = 4096;
/** Two extents, however large a page is. */
const HEADER = 8192;
const ECRYPTFS_MAGIC = 0xf15f;
/** linux/fs.h: how many bytes a block of the filesystem has, in four bytes. */
const FIGETBSZ = 2;

async function encrypted(guest: TestGuest, client: Client) {
  await using undo = new AsyncDisposableStack();
  const lower = await guest.directory('ext4', 'encrypted');
  const ecryptfs = undo.use(await guest.mountEcryptfs({ lower }, client));
  const fuse = undo.use(await guest.mountFuse({ root: ecryptfs.path, init: { maxStackDepth: 2 } }));
  const all = undo.move();
  return { fuse, ecryptfs, lower, [Symbol.asyncDispose]: () => all.disposeAsync() };
}

guestTest('equal pages are not equal on the disk, and the header says the size (E6)', async (t, guest) => {
  await using client = await guest.client();
  await using stack = await encrypted(guest, client);
  const page = pattern(PAGE);
  const data = new Uint8Array(2 * PAGE + 10);
  data.set(page);
  data.set(page, PAGE);
  await client.writeFile({ path: stack.fuse.file('f'), data });

  const disk = await client.readFile({ path: `${stack.lower}/f` });
  t.is(disk.length, HEADER + 3 * PAGE, 'a header and whole pages');
  t.is(Buffer.from(disk).readBigUInt64BE(0), BigInt(data.length), 'the size in the header');
  const stored = (nth: number) => disk.subarray(HEADER + nth * PAGE, HEADER + (nth + 1) * PAGE);
  t.not(firstDifference(stored(0), page), undefined, 'the first page is not there as it is');
  t.not(firstDifference(stored(0), stored(1)), undefined, 'equal pages are encrypted differently');
  t.deepEqual(await stack.fuse.dataRequests(), []);
});

/** Behind the size: a number that is drawn, and what is made of it. */
const MARKER = [8, 12] as const;

guestTest('files with the same contents are not the same on the disk (E6)', async (t, guest) => {
  await using client = await guest.client();
  await using stack = await encrypted(guest, client);
  const page = pattern(PAGE);
  for (const name of ['f', 'g']) await client.writeFile({ path: stack.fuse.file(name), data: page });
  const [f, g] = [
    await client.readFile({ path: `${stack.lower}/f` }),
    await client.readFile({ path: `${stack.lower}/g` }),
  ];
  t.not(firstDifference(f.subarray(HEADER), g.subarray(HEADER)), undefined, 'each has a key of its own');
  t.not(firstDifference(f.subarray(...MARKER), g.subarray(...MARKER)), undefined, 'markers are drawn');
  for (const name of ['f', 'g']) {
    const seen = await client.readFile({ path: stack.ecryptfs.file(name) });
    t.is(firstDifference(seen, page), undefined, name);
  }
  t.deepEqual(await stack.fuse.dataRequests(), []);
});

guestTest(
  'truncating through FUSE shortens the file on the disk and clears what it cut (E6)',
  async (t, guest) => {
    await using client = await guest.client();
    await using stack = await encrypted(guest, client);
    const data = pattern(5 * PAGE);
    await client.writeFile({ path: stack.fuse.file('f'), data });

    await client.truncate({ path: stack.fuse.file('f'), length: PAGE + 100 });
    const disk = await client.readFile({ path: `${stack.lower}/f` });
    t.is(disk.length, HEADER + 2 * PAGE, 'two pages are left');
    t.is(Buffer.from(disk).readBigUInt64BE(0), BigInt(PAGE + 100), 'the size in the header');
    await client.truncate({ path: stack.fuse.file('f'), length: 2 * PAGE });
    const expected = new Uint8Array(2 * PAGE);
    expected.set(data.subarray(0, PAGE + 100));
    t.is(firstDifference(await client.readFile({ path: stack.fuse.file('f') }), expected), undefined);
    await stack.fuse.unmount();
    await stack.ecryptfs.unmount();
    await using again = await guest.mountEcryptfs({ lower: stack.lower }, client);
    const kept = await client.readFile({ path: again.file('f') });
    t.is(firstDifference(kept, expected), undefined, 'what is decrypted from the disk');
  },
);

guestTest(
  'a truncation of a file on ecryptfs to the size that it has takes nothing away below',
  async (t, guest) => {
    await using client = await guest.client();
    await using stack = await encrypted(guest, client);
    for (const length of [0, 100, 2 * PAGE]) {
      const [path, below] = [stack.ecryptfs.file(String(length)), `${stack.lower}/${length}`];
      await client.writeFile({ path, data: pattern(length) });
      const before = await client.readFile({ path: below });
      await client.truncate({ path, length });
      const after = await client.readFile({ path: below });
      t.is(firstDifference(after, before), undefined, `${length} bytes, by its path`);
      const fd = await client.open({ path, flags: 'O_RDWR' });
      await client.ftruncate({ fd, length });
      await client.close({ fd });
      const last = await client.readFile({ path: below });
      t.is(firstDifference(last, before), undefined, `${length} bytes, by a descriptor`);
    }
  },
);

guestTest('owner, mode, blocks and links on ecryptfs are those of the lower file', async (t, guest) => {
  await using client = await guest.client();
  await using stack = await encrypted(guest, client);
  const path = stack.ecryptfs.file('f');
  await client.writeFile({ path, data: 'abc' });
  await client.chown({ path: `${stack.lower}/f`, uid: 1500, gid: 1600 });
  await client.chmod({ path, mode: 0o600 });
  await client.link({ from: path, to: stack.ecryptfs.file('g') });

  const lower = await client.stat({ path: `${stack.lower}/f` });
  for (const name of ['f', 'g']) {
    const stat = await client.stat({ path: stack.ecryptfs.file(name) });
    t.is(stat.size, 3, `${name}: the size is that of what was written`);
    const { ino, uid, gid, mode, blocks, blksize, nlink } = stat;
    const expected = {
      blksize: lower.blksize,
      uid: 1500,
      gid: 1600,
      ino: lower.ino,
      mode: lower.mode,
      blocks: lower.blocks,
      nlink: 2,
    };
    t.deepEqual({ ino, uid, gid, mode, blocks, blksize, nlink }, expected, name);
  }
  t.is((await client.statfs({ path })).type, ECRYPTFS_MAGIC, 'statfs says ecryptfs');
  const blockBytes = async (of: string) => {
    const fd = await client.open({ path: of, flags: 'O_RDONLY' });
    const { arg } = await client.ioctl({ fd, request: FIGETBSZ, arg: new Uint8Array(4) });
    await client.close({ fd });
    return arg;
  };
  t.deepEqual(await blockBytes(path), await blockBytes(`${stack.lower}/f`), 'how large a block is');
  await using stranger = await guest.client();
  await stranger.setCredentials({ uid: 4000, gid: 4000 });
  t.is(await stranger.errno.open({ path, flags: 'O_RDONLY' }), 'EACCES', 'a stranger may not read');
});

guestTest('a write takes the setuid bit away on ecryptfs and below it', async (t, guest) => {
  await using client = await guest.client();
  await using stack = await encrypted(guest, client);
  const path = stack.ecryptfs.file('f');
  await client.writeFile({ path, data: 'abc' });
  await client.chown({ path, uid: 1500, gid: 1500 });
  await using owner = await guest.client();
  await owner.setCredentials({ uid: 1500, gid: 1500 });
  const fd = await owner.open({ path, flags: 'O_RDWR' });
  for (const mode of [0o4755, 0o2755, 0o6755]) {
    await client.chmod({ path, mode });
    await owner.pwrite({ fd, data: bytes('x'), offset: 0 });
    for (const each of [path, `${stack.lower}/f`]) {
      t.is(
        ((await client.stat({ path: each })).mode & 0o7777).toString(8),
        '755',
        `${mode.toString(8)}, ${each === path ? 'ecryptfs' : 'below'}`,
      );
    }
  }
  await owner.close({ fd });
});

guestTest('a change of owner takes the setuid bits away on ecryptfs and below it', async (t, guest) => {
  await using client = await guest.client();
  await using stack = await encrypted(guest, client);
  const path = stack.ecryptfs.file('f');
  await client.writeFile({ path, data: 'abc' });
  await client.chmod({ path, mode: 0o6755 });
  const bits = async (of: string) => ((await client.stat({ path: of })).mode & 0o7777).toString(8);
  t.is(await bits(`${stack.lower}/f`), '6755', 'set');
  await client.chown({ path, uid: 1500, gid: 1500 });
  t.deepEqual([await bits(path), await bits(`${stack.lower}/f`)], ['755', '755'], 'ecryptfs, below');
});

guestTest('a new owner of an open file on ecryptfs is its owner at once', async (t, guest) => {
  await using client = await guest.client();
  await using stack = await encrypted(guest, client);
  const path = stack.ecryptfs.file('f');
  await client.writeFile({ path, data: 'abc' });
  await using owner = await guest.client();
  // No path is walked after the change: ecryptfs must have taken it over by itself.
  const fd = await owner.open({ path, flags: 'O_RDWR' });
  const { pid } = owner;
  await client.chown({ path: `/proc/${pid}/fd/${fd}`, uid: 1500, gid: 1500 });
  await owner.setCredentials({ uid: 1500, gid: 1500 });
  t.is(await owner.errno.fchmod({ fd, mode: 0o600 }), 'ok');
  t.is((await client.stat({ path: `${stack.lower}/f` })).mode & 0o777, 0o600, 'below');
  await owner.close({ fd });
});

guestTest('ecryptfs over ecryptfs is refused, whatever the depth', async (t, guest) => {
  await using client = await guest.client();
  await using stack = await encrypted(guest, client);
  const options = `ecryptfs_sig=${await guest.ecryptfsKey()},ecryptfs_cipher=aes,ecryptfs_key_bytes=16`;
  const request = { source: stack.ecryptfs.path, type: 'ecryptfs', options };
  t.is(await guest.mountErrno(request, client), 'EINVAL');
});

guestTest(
  'an empty file of ecryptfs has its header below, and may become as long as one below',
  async (t, guest) => {
    await using client = await guest.client();
    await using stack = await encrypted(guest, client);
    const fd = await client.open({ path: stack.ecryptfs.file('empty'), flags: 'O_RDWR|O_CREAT' });
    t.is((await client.stat({ path: `${stack.lower}/empty` })).size, HEADER);
    const far = 3 * 1024 ** 3;
    t.is(await client.lseek({ fd, offset: far, whence: 'SEEK_SET' }), far, 'beyond 2 GiB');
    await client.close({ fd });
  },
);
