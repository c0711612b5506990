import { bytes, concat, pattern, text } from '../lib/bytes.ts';
import { ioctlOn32, needs32Bit } from '../lib/calls-32.ts';
import type { BatchCall, Client } from '../lib/client.ts';
import { passphraseKey } from '../lib/ecryptfs-format.ts';
import { encryptBlocks, lowerFile, passphrasePacket, signaturePacket } from '../lib/ecryptfs-packets.ts';
import { ecryptfsOnFuse } from '../lib/ecryptfs-on-fuse.ts';
import { u32 } from '../lib/entry-answer.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';
import { ecryptfsOptions, type StackedMount } from '../lib/stacked-mount.ts';

/** What ecryptfs can do only where the lower filesystem can: attributes, ioctls, mappings, block numbers. */

const PASSPHRASE = 'fusegate';

interface Lower extends AsyncDisposable {
  readonly path: string;
}

/** A filesystem of the kernel, mounted for a test. */
async function lowerMount(guest: TestGuest, client: Client, type: string): Promise<Lower> {
  const target = await guest.directory('area', type);
  await client.mount({ source: 'none', target, type });
  return {
    path: target,
    [Symbol.asyncDispose]: async () => {
      await client.umount2({ target });
    },
  };
}

async function mountOver(
  guest: TestGuest,
  client: Client,
  lower: string,
  ...more: string[]
): Promise<StackedMount> {
  const options = ecryptfsOptions(await guest.ecryptfsKey(PASSPHRASE), { more });
  return guest.mount({ source: lower, type: 'ecryptfs', options }, client);
}

guestTest(
  'over a filesystem without attributes ecryptfs has none, and keeps nothing in them',
  async (t, guest) => {
    await using client = await guest.client();
    await using lower = await lowerMount(guest, client, 'ramfs');
    {
      await using ecryptfs = await mountOver(guest, client, lower.path);
      const path = ecryptfs.file('f');
      await client.writeFile({ path, data: 'contents' });
      const attribute = { path, name: 'user.word' };
      t.is(await client.errno.setxattr({ ...attribute, data: bytes('value') }), 'EOPNOTSUPP');
      t.is(await client.errno.getxattr(attribute), 'EOPNOTSUPP');
      t.is(await client.errno.listxattr({ path }), 'EOPNOTSUPP');
      t.is(await client.errno.removexattr(attribute), 'EOPNOTSUPP');
      t.is(text(await client.readFile({ path })), 'contents');
      t.is(await ecryptfs.unmount(), 'ok');
    }
    await using ecryptfs = await mountOver(guest, client, lower.path, 'ecryptfs_xattr_metadata');
    t.is(await client.errno.creat({ path: ecryptfs.file('made') }), 'EOPNOTSUPP', 'a header has no place');
    t.deepEqual(await client.readdir({ path: lower.path }), ['f'], 'and nothing is left of the file');
    t.is(text(await client.readFile({ path: ecryptfs.file('f') })), 'contents', 'one that has it in itself');
    t.is(await ecryptfs.unmount(), 'ok');
  },
);

/** In the flags of a header: the lowest byte, and in it that the header is in an attribute. */
const [FLAGS_AT, IN_ATTRIBUTE] = [19, 4];

guestTest('a size that belongs into an attribute cannot be told where there are none', async (t, guest) => {
  await using client = await guest.client();
  await using lower = await lowerMount(guest, client, 'ramfs');
  const { key, signature } = passphraseKey(PASSPHRASE);
  const fileKey = pattern(16, 7);
  const wrapped = encryptBlocks(key.subarray(0, 16), fileKey);
  const packets = [passphrasePacket({ wrapped }), signaturePacket({ signature })];
  const stored = lowerFile({ packets, fileKey, data: pattern(100) });
  for (const [name, flags] of [
    ['in-itself', 0],
    ['in-an-attribute', IN_ATTRIBUTE],
  ] as const) {
    stored[FLAGS_AT] = (stored[FLAGS_AT] ?? 0) | flags;
    await client.writeFile({ path: `${lower.path}/${name}`, data: stored });
  }
  await using ecryptfs = await mountOver(guest, client, lower.path);
  const write = async (name: string): Promise<string> => {
    const fd = await client.open({ path: ecryptfs.file(name), flags: 'O_RDWR' });
    const errno = await client.errno.pwrite({ fd, data: pattern(200), offset: 0 });
    await client.close({ fd });
    return errno;
  };
  t.is(await write('in-an-attribute'), 'ENOSYS');
  t.is(await write('in-itself'), 'ok');
  t.is(await ecryptfs.unmount(), 'ok');
});

guestTest('a file on ecryptfs cannot be mapped where the lower one cannot', async (t, guest) => {
  await using client = await guest.client();
  await using fuse = await guest.mountFuse();
  // Its files can be read and not be mapped.
  await using lower = await lowerMount(guest, client, 'fusectl');
  await using ecryptfs = await mountOver(guest, client, lower.path, 'ecryptfs_passthrough');
  const mapped = async (path: string): Promise<string> => {
    const fd = await client.open({ path, flags: 'O_RDONLY' });
    const errno = await client.errno.mmap({ fd, length: 4096, prot: 'PROT_READ', flags: 'MAP_SHARED' });
    await client.close({ fd });
    return errno;
  };
  t.is(await mapped(ecryptfs.file(`${fuse.connection}/waiting`)), 'ENODEV');
  {
    await using onExt4 = await guest.mountEcryptfs({ lower: await guest.directory('ext4') }, client);
    await client.writeFile({ path: onExt4.file('f'), data: 'contents' });
    t.is(await mapped(onExt4.file('f')), 'ok', 'where it can');
  }
  t.is(await ecryptfs.unmount(), 'ok');
});

/** linux/fs.h */
const [FITRIM, GETVERSION, SETVERSION] = [0xc018_5879, 0x8008_7601, 0x4008_7602];
const GETVERSION_32 = 0x8004_7601;
/** Asks for a label of 256 bytes, which ecryptfs does not know. */
const GETFSLABEL = 0x8100_9431;

guestTest('ecryptfs hands down the ioctls that it knows, and no others', async (t, guest) => {
  await using client = await guest.client();
  await using stack = await ecryptfsOnFuse(guest, client);
  const { ecryptfs, fuse } = stack;
  await client.writeFile({ path: ecryptfs.file('f'), data: 'contents' });
  const fd = await client.open({ path: ecryptfs.file('f'), flags: 'O_RDWR' });
  const arg = new Uint8Array(256);
  for (const [request, room] of [
    [FITRIM, 24],
    [GETVERSION, 8],
    [SETVERSION, 0],
  ] as const) {
    const body = concat(u32(42), u32(0), u32(0), u32(0), new Uint8Array(room));
    const answered = await fuse.rule({ match: { opcode: 'IOCTL' }, action: { do: 'body', body } });
    const after = await fuse.position();
    t.is((await client.ioctl({ fd, request, arg })).ret, 42, `${request.toString(16)}: the server’s answer`);
    const [asked] = await fuse.requests({ opcode: 'IOCTL', after });
    t.is(asked?.args['cmd'], request);
    await answered();
  }
  const after = await fuse.position();
  t.is(await client.errno.ioctl({ fd, request: GETFSLABEL, arg }), 'ENOTTY');
  t.deepEqual(await fuse.requests({ opcode: 'IOCTL', after }), []);
  await client.close({ fd });
});

guestTest('where the lower file has no ioctls, one on ecryptfs has none', async (t, guest) => {
  await using client = await guest.client();
  const errnos = async (lower: string, request: number): Promise<string> => {
    await using ecryptfs = await mountOver(guest, client, lower);
    await client.writeFile({ path: ecryptfs.file('f'), data: 'contents' });
    const fd = await client.open({ path: ecryptfs.file('f'), flags: 'O_RDONLY' });
    const errno = await client.errno.ioctl({ fd, request, arg: new Uint8Array(256) });
    await client.close({ fd });
    return errno;
  };
  const [onTmpfs, onExt4] = [await guest.directory('tmpfs'), await guest.directory('ext4')];
  t.is(await errnos(onTmpfs, GETVERSION), 'ENOTTY');
  t.is(await errnos(onExt4, GETVERSION), 'ok');
  t.is(await errnos(onExt4, GETFSLABEL), 'ENOTTY', 'one that ecryptfs does not know');
});

guestTest('ioctls of 32-bit programs on ecryptfs are those of the lower file', async (t, guest) => {
  await needs32Bit(guest);
  await using client = await guest.client();
  const returned = async (lower: string, request: number): Promise<number> => {
    await using ecryptfs = await mountOver(guest, client, lower);
    await client.writeFile({ path: ecryptfs.file('f'), data: 'contents' });
    const fd = await client.open({ path: ecryptfs.file('f'), flags: 'O_RDWR' });
    const arg = new Uint8Array(16);
    const code = await ioctlOn32(guest, client, { pid: client.pid, fd }, { request, arg });
    await client.close({ fd });
    return code;
  };
  const [onTmpfs, onExt4] = [await guest.directory('tmpfs'), await guest.directory('ext4')];
  const ENOTTY = -25;
  t.is(await returned(onExt4, GETVERSION_32), 0);
  t.is(await returned(onExt4, GETFSLABEL), ENOTTY, 'one that ecryptfs does not know');
  t.is(await returned(onTmpfs, GETVERSION_32), ENOTTY, 'where the lower file has none');
});

/** linux/fs.h: which block of the disk a block of a file is, in four bytes. */
const FIBMAP = 1;

guestTest('FIBMAP on ecryptfs tells the blocks of the lower file', async (t, guest) => {
  await using client = await guest.client();
  const lower = await guest.directory('ext4', 'encrypted');
  await using ecryptfs = await guest.mountEcryptfs({ lower }, client);
  await client.writeFile({ path: ecryptfs.file('f'), data: pattern(20_000) });
  const blocks = async (path: string): Promise<number[]> => {
    const fd = await client.open({ path, flags: 'O_RDONLY' });
    const found: number[] = [];
    for (const block of [0, 1, 3, 1000]) {
      const { arg } = await client.ioctl({ fd, request: FIBMAP, arg: u32(block) });
      found.push(new DataView((arg ?? u32(0)).slice().buffer).getUint32(0, true));
    }
    await client.close({ fd });
    return found;
  };
  const below = await blocks(`${lower}/f`);
  t.true((below[1] ?? 0) > 0, 'the lower file has blocks');
  t.deepEqual(await blocks(ecryptfs.file('f')), below);

  // A filesystem in memory has no blocks, and ecryptfs can say so with the number of none only.
  const nowhere = await guest.directory('tmpfs');
  await using over = await guest.mountEcryptfs({ lower: nowhere }, client);
  await client.writeFile({ path: over.file('f'), data: pattern(20_000) });
  t.deepEqual(await blocks(over.file('f')), [0, 0, 0, 0], 'over a filesystem without blocks');
});

/** asm-generic/fcntl.h */
const O_ASYNC = 0o20_000;

guestTest('O_ASYNC is no error on a file of ecryptfs, and does as little as below', async (t, guest) => {
  await using client = await guest.client();
  const lower = await guest.directory('ext4', 'encrypted');
  await using ecryptfs = await guest.mountEcryptfs({ lower }, client);
  await client.writeFile({ path: ecryptfs.file('f'), data: 'contents' });
  const asked = async (path: string) => {
    const fd = await client.open({ path, flags: 'O_RDWR' });
    const errno = await client.errno.fcntl({ fd, cmd: 'F_SETFL', arg: 'O_ASYNC' });
    const set = ((await client.fcntl({ fd, cmd: 'F_GETFL' })) & O_ASYNC) !== 0;
    await client.close({ fd });
    return { errno, set };
  };
  t.deepEqual(await asked(`${lower}/f`), { errno: 'ok', set: false });
  t.deepEqual(await asked(ecryptfs.file('f')), { errno: 'ok', set: false });
});

/** What is in each of several files, for memory is not the same every time. */
const [PLAIN, FILES, PAGE] = [bytes('in the clear'), 16, 4096];

/** Plain files, shown as they are, by a mount of their own; and calls that leave memory behind with something in it. */
async function plainFiles(guest: TestGuest, client: Client) {
  const lower = await guest.directory('ext4', 'plain');
  const names = Array.from({ length: FILES }, (_none, nth) => `f${nth}`);
  for (const name of names) await client.writeFile({ path: `${lower}/${name}`, data: PLAIN });
  const ecryptfs = await mountOver(guest, client, lower, 'ecryptfs_passthrough');
  const aside = await guest.directory('tmpfs');
  const used = await client.open({ path: `${aside}/used`, flags: 'O_RDWR|O_CREAT' });
  const data = { make: { length: 16 * PAGE, seed: 1 } };
  const useMemory: BatchCall[] = [
    { call: 'pwrite', args: { fd: used, data, offset: 0 } },
    { call: 'ftruncate', args: { fd: used, length: 0 } },
  ];
  return { lower, names, ecryptfs, aside, useMemory };
}

function hasOthers(data: Uint8Array): boolean {
  return data.some((byte) => byte !== 0);
}

guestTest(
  'a write behind the end of a file that ecryptfs shows as it is leaves zeros before it, whatever memory had',
  async (t, guest) => {
    await using client = await guest.client();
    const { lower, names, ecryptfs, useMemory } = await plainFiles(guest, client);
    await using _mounted = ecryptfs;
    const odd: string[] = [];
    for (const name of names) {
      const fd = await client.open({ path: ecryptfs.file(name), flags: 'O_RDWR' });
      const write = { call: 'pwrite', args: { fd, data: bytes('x'), offset: 100 } } as const;
      const results = await client.batch({ calls: [...useMemory, write], oneThread: true });
      t.true(
        results.every((result) => 'value' in result),
        name,
      );
      await client.close({ fd });
      const stored = await client.readFile({ path: `${lower}/${name}` });
      t.is(stored.length, 101, name);
      t.is(text(stored.subarray(0, PLAIN.length)), text(PLAIN), `${name}: what was there`);
      if (hasOthers(stored.subarray(PLAIN.length, 100))) odd.push(name);
    }
    t.deepEqual(odd, [], 'files with something else between the old end and the write');
  },
);

guestTest(
  'a mapping of a file that ecryptfs shows as it is has zeros behind its end, whatever memory had',
  async (t, guest) => {
    await using client = await guest.client();
    const { names, ecryptfs, aside, useMemory } = await plainFiles(guest, client);
    await using _mounted = ecryptfs;
    const odd: string[] = [];
    for (const name of names) {
      const fd = await client.open({ path: ecryptfs.file(name), flags: 'O_RDONLY' });
      const map = await client.mmap({ fd, length: PAGE, prot: 'PROT_READ', flags: 'MAP_SHARED' });
      // The same thread loads from the page, so that it gets the memory that was used.
      const path = `${aside}/${name}`;
      const copy = await client.open({ path, flags: 'O_WRONLY|O_CREAT' });
      const load = { call: 'writeFrom', args: { fd: copy, map, offset: 0, length: PAGE } } as const;
      await client.batch({ calls: [...useMemory, load], oneThread: true });
      await client.close({ fd: copy });
      const page = await client.readFile({ path });
      t.is(page.length, PAGE, name);
      t.is(text(page.subarray(0, PLAIN.length)), text(PLAIN), `${name}: what is in it`);
      if (hasOthers(page.subarray(PLAIN.length))) odd.push(name);
      await client.munmap({ map });
      await client.close({ fd });
    }
    t.deepEqual(odd, [], 'files with something else behind their end');
  },
);
