import { firstDifference, pattern, text } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import { passphraseKey } from '../lib/ecryptfs-format.ts';
import { ecryptfsOnFuse } from '../lib/ecryptfs-on-fuse.ts';
import { encryptBlocks, lowerFile, passphrasePacket, signaturePacket } from '../lib/ecryptfs-packets.ts';
import { guestTest } from '../lib/guest-test.ts';
import { ecryptfsOptions } from '../lib/stacked-mount.ts';

/** Files by another program that are mostly holes, so that they may be large; and sizes that change below. */

const PASSPHRASE = 'fusegate';
const PAGE = 4096;
const HEADER_BYTES = 2 * PAGE;
const GIB = 1024 ** 3;
const FIRST = pattern(5, 3);
/** Beyond what 32 bits can say. */
const LARGE = 5 * GIB + 10;

function sizeOf(size: number): Uint8Array {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(size), false);
  return bytes;
}

/** A lower file of so many bytes, of which the first ones are `FIRST` and the rest is a hole. */
async function makeLarge(client: Client, path: string, size: number): Promise<void> {
  const { key, signature } = passphraseKey(PASSPHRASE);
  const fileKey = pattern(16, 7);
  const packets = [
    passphrasePacket({ wrapped: encryptBlocks(key.subarray(0, 16), fileKey) }),
    signaturePacket({ signature }),
  ];
  const data = lowerFile({ packets, fileKey, data: FIRST });
  data.set(sizeOf(size));
  await client.writeFile({ path, data });
  await client.truncate({ path, length: HEADER_BYTES + Math.ceil(size / PAGE) * PAGE });
}

guestTest('a file on ecryptfs may be larger than 2 GiB, and than 4 GiB (E6)', async (t, guest) => {
  await using client = await guest.client();
  const lower = await guest.directory('ext4', 'encrypted');
  // With its header the first one is a page shorter than 2 GiB: it can be opened by anybody.
  for (const size of [2 * GIB - HEADER_BYTES - PAGE, LARGE]) {
    const [name, data] = [String(size), pattern(2 * PAGE)];
    await makeLarge(client, `${lower}/${name}`, size);
    await using ecryptfs = await guest.mountEcryptfs({ lower }, client);
    const path = ecryptfs.file(name);
    t.is((await client.stat({ path })).size, size, 'the size in the header');
    const fd = await client.open({ path, flags: 'O_RDWR' });
    const beginning = await client.pread({ fd, count: FIRST.length, offset: 0 });
    t.is(firstDifference(beginning, FIRST), undefined, `${name}: its first bytes`);
    t.is(await client.pwrite({ fd, data, offset: size }), data.length, `${name}: written at the end`);
    t.is((await client.fstat({ fd })).size, size + data.length, `${name}: longer`);
    const seen = await client.pread({ fd, count: 3 * PAGE, offset: size });
    t.is(firstDifference(seen, data), undefined, `${name}: what was written`);
    await client.close({ fd });
    const below = await client.open({ path: `${lower}/${name}`, flags: 'O_RDONLY' });
    const stored = await client.pread({ fd: below, count: 8, offset: 0 });
    t.deepEqual(stored, sizeOf(size + data.length), `${name}: the size in the header below`);
    await client.close({ fd: below });
  }
});

guestTest(
  'what is written beyond 4 GiB of a file on ecryptfs is as far from its beginning below (E6)',
  async (t, guest) => {
    await using client = await guest.client();
    const lower = await guest.directory('ext4', 'encrypted');
    await guest.ecryptfsKey(PASSPHRASE);
    await makeLarge(client, `${lower}/f`, LARGE);
    await using ecryptfs = await guest.mountEcryptfs({ lower }, client);
    const fd = await client.open({ path: ecryptfs.file('f'), flags: 'O_RDWR' });
    const below = await client.open({ path: `${lower}/f`, flags: 'O_RDONLY' });
    const stored = async (offset: number): Promise<Uint8Array> =>
      client.pread({ fd: below, count: PAGE, offset: HEADER_BYTES + offset });
    const hole = new Uint8Array(PAGE);
    const first = await stored(0);
    // Less 4 GiB the others are the first page and the last one before 1 GiB.
    const places = [2 * GIB, 4 * GIB, 5 * GIB - PAGE];
    for (const offset of places) {
      t.is(firstDifference(await stored(offset), hole), undefined, `${offset}: a hole`);
      await client.pwrite({ fd, data: pattern(PAGE, 3), offset });
      t.not(firstDifference(await stored(offset), hole), undefined, `${offset}: written there`);
      t.is(firstDifference(await stored(0), first), undefined, `${offset}: and not at the beginning`);
      t.is(firstDifference(await stored(GIB - PAGE), hole), undefined, `${offset}: and not in front of it`);
    }
    await client.close({ fd });
    t.is(await ecryptfs.unmount(), 'ok');
    await using again = await guest.mountEcryptfs({ lower }, client);
    const seen = await client.open({ path: again.file('f'), flags: 'O_RDONLY' });
    for (const offset of places) {
      const data = await client.pread({ fd: seen, count: PAGE, offset });
      t.is(firstDifference(data, pattern(PAGE, 3)), undefined, `${offset}: mounted anew`);
    }
    for (const each of [seen, below]) await client.close({ fd: each });
  },
);

guestTest('a file on ecryptfs that is made longer across 4 GiB has zeros there (E6)', async (t, guest) => {
  await using client = await guest.client();
  const lower = await guest.directory('ext4', 'encrypted');
  await guest.ecryptfsKey(PASSPHRASE);
  const [before, length] = [4 * GIB - 100, 4 * GIB + PAGE + 10];
  await makeLarge(client, `${lower}/f`, before);
  {
    await using ecryptfs = await guest.mountEcryptfs({ lower }, client);
    await client.truncate({ path: ecryptfs.file('f'), length });
    t.is((await client.stat({ path: ecryptfs.file('f') })).size, length, 'size');
    t.is(await ecryptfs.unmount(), 'ok');
  }
  const pages = Math.ceil(length / PAGE);
  t.is((await client.stat({ path: `${lower}/f` })).size, HEADER_BYTES + pages * PAGE, 'size below');
  await using ecryptfs = await guest.mountEcryptfs({ lower }, client);
  const fd = await client.open({ path: ecryptfs.file('f'), flags: 'O_RDONLY' });
  t.is((await client.fstat({ fd })).size, length, 'size, mounted anew');
  const added = await client.pread({ fd, count: 3 * PAGE, offset: before });
  t.is(added.length, length - before, 'what can be read behind the old end');
  t.is(firstDifference(added, new Uint8Array(added.length)), undefined, 'zeros');
  const beginning = await client.pread({ fd, count: FIRST.length, offset: 0 });
  t.is(firstDifference(beginning, FIRST), undefined, 'its first bytes are those that it had');
  await client.close({ fd });
});

guestTest(
  'a large file that ecryptfs shows as it is is read and written where the lower one has it (E6)',
  async (t, guest) => {
    await using client = await guest.client();
    const lower = await guest.directory('ext4', 'plain');
    const path = `${lower}/f`;
    await client.writeFile({ path, data: pattern(PAGE) });
    await client.truncate({ path, length: LARGE });
    const below = await client.open({ path, flags: 'O_RDWR' });
    for (const offset of [2 * GIB, 4 * GIB]) await client.pwrite({ fd: below, data: FIRST, offset });
    const options = ecryptfsOptions(await guest.ecryptfsKey(), { more: ['ecryptfs_passthrough'] });
    await using ecryptfs = await guest.mount({ source: lower, type: 'ecryptfs', options }, client);
    const fd = await client.open({ path: ecryptfs.file('f'), flags: 'O_RDWR' });
    for (const offset of [2 * GIB, 4 * GIB]) {
      const seen = await client.pread({ fd, count: FIRST.length, offset });
      t.is(firstDifference(seen, FIRST), undefined, `read at ${offset}`);
      await client.pwrite({ fd, data: 'written', offset: offset + PAGE + 10 });
      const stored = await client.pread({ fd: below, count: 7, offset: offset + PAGE + 10 });
      t.is(text(stored), 'written', `written behind ${offset}`);
    }
    const beginning = await client.pread({ fd: below, count: PAGE, offset: 0 });
    t.is(firstDifference(beginning, pattern(PAGE)), undefined, 'the beginning stays as it was');
    for (const each of [fd, below]) await client.close({ fd: each });
  },
);

guestTest(
  'a large file on ecryptfs that is cut ends below with the page that it ends in',
  async (t, guest) => {
    await using client = await guest.client();
    const lower = await guest.directory('ext4', 'encrypted');
    await guest.ecryptfsKey(PASSPHRASE);
    await makeLarge(client, `${lower}/f`, LARGE);
    await using ecryptfs = await guest.mountEcryptfs({ lower }, client);
    const fd = await client.open({ path: ecryptfs.file('f'), flags: 'O_RDWR' });
    const below = await client.open({ path: `${lower}/f`, flags: 'O_RDONLY' });
    for (const length of [4 * GIB + 2 * PAGE + 100, 4 * GIB, 3 * GIB + 1, 100]) {
      await client.ftruncate({ fd, length });
      t.is((await client.fstat({ fd })).size, length, `${length} bytes: size`);
      const pages = Math.ceil(length / PAGE);
      t.is(
        (await client.fstat({ fd: below })).size,
        HEADER_BYTES + pages * PAGE,
        `${length} bytes: size of the lower file`,
      );
      const stored = await client.pread({ fd: below, count: 8, offset: 0 });
      t.deepEqual(stored, sizeOf(length), `${length} bytes: the size in the header below`);
    }
    const beginning = await client.pread({ fd, count: FIRST.length, offset: 0 });
    t.is(firstDifference(beginning, FIRST), undefined, 'its first bytes are those that it had');
    for (const each of [fd, below]) await client.close({ fd: each });
  },
);

guestTest(
  'a large file that the server does not open for a user is opened by a thread of the kernel',
  async (t, guest) => {
    await using client = await guest.client();
    await using stack = await ecryptfsOnFuse(guest, client);
    const { ecryptfs, fuse } = stack;
    await guest.ecryptfsKey(PASSPHRASE);
    await makeLarge(client, fuse.backing('f'), LARGE);
    await fuse.fail('OPEN', 'EACCES', 1);
    const path = ecryptfs.file('f');
    t.is(await client.errno.stat({ path }), 'ok');
    t.is((await client.stat({ path })).size, LARGE);
    await fuse.fail('OPEN', 'EACCES', 1);
    const fd = await client.open({ path, flags: 'O_RDONLY' });
    const beginning = await client.pread({ fd, count: FIRST.length, offset: 0 });
    t.is(firstDifference(beginning, FIRST), undefined);
    await client.close({ fd });
  },
);

guestTest(
  'a size that another program changes below is told when another name of the file is looked up',
  async (t, guest) => {
    await using client = await guest.client();
    const lower = await guest.directory('ext4', 'encrypted');
    await using ecryptfs = await guest.mountEcryptfs({ lower }, client);
    await client.writeFile({ path: ecryptfs.file('f'), data: 'contents' });
    t.is((await client.stat({ path: ecryptfs.file('f') })).size, 8);
    for (const [name, size] of [
      ['g', 5],
      ['h', 3],
    ] as const) {
      await client.link({ from: `${lower}/f`, to: `${lower}/${name}` });
      await client.writeFile({ path: `${lower}/f`, data: sizeOf(size), flags: 'O_WRONLY' });
      for (const each of [name, 'f']) {
        t.is((await client.stat({ path: ecryptfs.file(each) })).size, size, `${name} is new: ${each}`);
      }
    }
    t.is(text(await client.readFile({ path: ecryptfs.file('f') })), 'con');
  },
);
