import { bytes, firstDifference, pattern } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';
import { needsMaxStackDepth } from '../lib/stack-depth.ts';

/** ecryptfs begins a file with a header of two pages at least, whose first eight bytes are the size of the contents. */
const HEADER_BYTES = 8192;
const PAGE = 4096;

type Place = 'FUSE above ecryptfs' | 'ecryptfs above FUSE';
const PLACES: readonly Place[] = ['FUSE above ecryptfs', 'ecryptfs above FUSE'];

/** A path for the client at the top of the stack, and the same file as it is on ext4. */
interface Encrypted extends AsyncDisposable {
  readonly top: string;
  readonly stored: string;
  readonly dataRequests: () => Promise<unknown[]>;
  /** Mounts ecryptfs again: nothing of it is in a cache any more. */
  readonly again: () => Promise<string>;
}

async function encrypted(guest: TestGuest, client: Client, place: Place): Promise<Encrypted> {
  await using undo = new AsyncDisposableStack();
  const root = await guest.directory('ext4', 'encrypted');
  const below = place === 'ecryptfs above FUSE';
  const inner = below ? undo.use(await guest.mountFuse({ root, init: { maxStackDepth: 1 } })) : undefined;
  const ecryptfs = undo.use(await guest.mountEcryptfs({ lower: inner?.path ?? root }, client));
  const outer = below
    ? undefined
    : undo.use(await guest.mountFuse({ root: ecryptfs.path, init: { maxStackDepth: 2 } }));
  const fuse = inner ?? outer;
  const all = undo.move();
  return {
    top: (outer ?? ecryptfs).file('f'),
    stored: `${root}/f`,
    dataRequests: async () => (await fuse?.dataRequests()) ?? [],
    again: async () => {
      if (outer) await outer.unmount('MNT_DETACH');
      await outer?.server[Symbol.asyncDispose]();
      await ecryptfs.unmount();
      return all.use(await guest.mountEcryptfs({ lower: inner?.path ?? root }, client)).file('f');
    },
    [Symbol.asyncDispose]: () => all.disposeAsync(),
  };
}

/** Size of the contents as the header of the lower file has it, big-endian. */
function sizeInHeader(stored: Uint8Array): number {
  return Number(new DataView(stored.buffer, stored.byteOffset, 8).getBigUint64(0, false));
}

/** Changes of a file, applied in this order, and to a model of it. */
const CHANGES: readonly {
  readonly what: string;
  readonly apply: (client: Client, fd: number) => Promise<unknown>;
  readonly model: (data: Uint8Array) => Uint8Array;
}[] = [
  {
    what: 'a write inside of a page',
    apply: (client, fd) => client.pwrite({ fd, data: 'inside', offset: 100 }),
    model: (data) => patched(data, 100, bytes('inside')),
  },
  {
    what: 'a write inside of the last page, not up to its end',
    apply: (client, fd) => client.pwrite({ fd, data: 'of the last', offset: 9000 }),
    model: (data) => patched(data, 9000, bytes('of the last')),
  },
  {
    what: 'a write over the border of two pages',
    apply: (client, fd) => client.pwrite({ fd, data: pattern(200, 3), offset: PAGE - 100 }),
    model: (data) => patched(data, PAGE - 100, pattern(200, 3)),
  },
  {
    what: 'a write at the end',
    apply: (client, fd) => client.pwrite({ fd, data: pattern(5000, 4), offset: 10_000 }),
    model: (data) => patched(data, 10_000, pattern(5000, 4)),
  },
  {
    what: 'a truncation to the middle of a page',
    apply: (client, fd) => client.ftruncate({ fd, length: 6000 }),
    model: (data) => data.slice(0, 6000),
  },
  {
    what: 'a truncation to more than there is',
    apply: (client, fd) => client.ftruncate({ fd, length: 9000 }),
    model: (data) => patched(data, 9000, new Uint8Array()),
  },
  {
    what: 'a write beyond the end',
    apply: (client, fd) => client.pwrite({ fd, data: 'far', offset: 20_000 }),
    model: (data) => patched(data, 20_000, bytes('far')),
  },
];

function patched(data: Uint8Array, at: number, part: Uint8Array): Uint8Array {
  const result = new Uint8Array(Math.max(data.length, at + part.length));
  result.set(data);
  result.set(part, at);
  return result;
}

for (const place of PLACES) {
  guestTest.alone(
    `${place}: contents, sizes and the lower file’s header agree after every kind of change (E6, E7)`,
    async (t, guest) => {
      if (place === 'ecryptfs above FUSE') needsMaxStackDepth(guest);
      await using client = await guest.client();
      await using stack = await encrypted(guest, client, place);
      let model = pattern(10_000);
      await client.writeFile({ path: stack.top, data: model, mode: 0o640 });
      const fd = await client.open({ path: stack.top, flags: 'O_RDWR' });
      for (const { what, apply, model: change } of CHANGES) {
        await apply(client, fd);
        model = change(model);
        t.is(firstDifference(await client.pread({ fd, count: 30_000, offset: 0 }), model), undefined, what);
        t.is((await client.fstat({ fd })).size, model.length, `${what}: size`);
        await client.fsync({ fd });
        const stored = await client.readFile({ path: stack.stored });
        t.is(sizeInHeader(stored), model.length, `${what}: size in the header`);
        const pages = Math.ceil(model.length / PAGE);
        t.true(stored.length >= HEADER_BYTES + PAGE * pages, `${what}: room for header and whole pages`);
        for (let page = 0; page < pages; page++) {
          const clear = model.subarray(page * PAGE, page * PAGE + 64);
          // A hole of the contents may be one of the lower file; data may not be there in the clear.
          if (clear.every((byte) => byte === 0)) continue;
          t.false(Buffer.from(stored).includes(Buffer.from(clear)), `${what}: page ${page} is encrypted`);
        }
      }
      t.is((await client.stat({ path: stack.stored })).mode & 0o777, 0o640, 'mode below');
      await client.close({ fd });
      t.deepEqual(await stack.dataRequests(), []);
      const path = await stack.again();
      t.is(firstDifference(await client.readFile({ path }), model), undefined, 'decrypted from the disk');
      t.is((await client.stat({ path })).size, model.length);
    },
  );
}

guestTest(
  'names, links and attributes of files on ecryptfs are those of the lower directory (E6)',
  async (t, guest) => {
    await using client = await guest.client();
    const lower = await guest.directory('ext4', 'encrypted');
    await using ecryptfs = await guest.mountEcryptfs({ lower }, client);
    await using fuse = await guest.mountFuse({ root: ecryptfs.path, init: { maxStackDepth: 2 } });
    await client.mkdir({ path: fuse.file('d'), mode: 0o750 });
    await client.writeFile({ path: fuse.file('d/one'), data: 'contents' });
    await client.link({ from: fuse.file('d/one'), to: fuse.file('d/two') });
    await client.symlink({ target: 'd/one', path: fuse.file('s') });
    await client.rename({ from: fuse.file('d/two'), to: fuse.file('three') });
    await client.chown({ path: fuse.file('d/one'), uid: 1001, gid: 1002 });
    await client.chmod({ path: fuse.file('d/one'), mode: 0o604 });
    await client.setxattr({ path: fuse.file('d/one'), name: 'user.word', data: 'value' });
    for (const top of [fuse.path, ecryptfs.path]) {
      t.deepEqual(await client.readdir({ path: top }), ['d', 's', 'three'], top);
      t.deepEqual(await client.readdir({ path: `${top}/d` }), ['one'], top);
      t.is(await client.readlink({ path: `${top}/s` }), 'd/one', top);
      const { uid, gid, mode, nlink, size } = await client.stat({ path: `${top}/three` });
      const kept = { uid: 1001, gid: 1002, mode: 0o100604, nlink: 2, size: 8 };
      t.deepEqual({ uid, gid, mode, nlink, size }, kept, top);
    }
    t.deepEqual(await client.readdir({ path: lower }), ['d', 's', 'three'], 'below');
    t.is((await client.stat({ path: `${lower}/d` })).mode & 0o777, 0o750);
    const value = await client.getxattr({ path: `${lower}/three`, name: 'user.word' });
    t.deepEqual([...value], [...bytes('value')]);
    await client.unlink({ path: fuse.file('three') });
    t.is((await client.stat({ path: fuse.file('d/one') })).nlink, 1);
    await client.unlink({ path: fuse.file('d/one') });
    await client.rmdir({ path: fuse.file('d') });
    t.deepEqual(await client.readdir({ path: lower }), ['s']);
    t.deepEqual(await fuse.dataRequests(), []);
  },
);

guestTest('an empty lower file becomes one of ecryptfs when it is opened (E6)', async (t, guest) => {
  await using client = await guest.client();
  const lower = await guest.directory('ext4', 'encrypted');
  await client.writeFile({ path: `${lower}/f`, data: '' });
  await using ecryptfs = await guest.mountEcryptfs({ lower }, client);
  await using fuse = await guest.mountFuse({ root: ecryptfs.path, init: { maxStackDepth: 2 } });
  const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
  await client.pwrite({ fd, data: 'contents', offset: 0 });
  await client.fsync({ fd });
  await client.close({ fd });
  t.is(firstDifference(await client.readFile({ path: fuse.file('f') }), bytes('contents')), undefined);
  t.is(sizeInHeader(await client.readFile({ path: `${lower}/f` })), 8, 'with a header of its own');
  t.deepEqual(await fuse.dataRequests(), []);
});

guestTest('a file removed on ecryptfs gives its space back below at once (C8)', async (t, guest) => {
  await using client = await guest.client();
  const lower = await guest.directory('ext4', 'encrypted');
  await using ecryptfs = await guest.mountEcryptfs({ lower }, client);
  await using fuse = await guest.mountFuse({ root: ecryptfs.path, init: { maxStackDepth: 2 } });
  await client.writeFile({ path: fuse.file('f'), data: pattern(1 << 20) });
  const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
  await client.fsync({ fd });
  await client.close({ fd });
  await fuse.waitFor('RELEASE');
  const free = async (): Promise<number> => {
    const { bfree, bsize } = await client.statfs({ path: lower });
    return bfree * bsize;
  };
  const before = await free();
  await client.unlink({ path: fuse.file('f') });
  await fuse.waitFor({ opcode: ['FORGET', 'BATCH_FORGET'] }, 'arrived');
  t.true((await free()) - before >= 1 << 20, 'nothing holds the lower file any more');
});

guestTest(
  'ecryptfs knows no flags of rename, and grows no file beyond RLIMIT_FSIZE (A38)',
  async (t, guest) => {
    await using client = await guest.client();
    const lower = await guest.directory('ext4', 'encrypted');
    await using ecryptfs = await guest.mountEcryptfs({ lower }, client);
    for (const name of ['a', 'b']) await client.writeFile({ path: ecryptfs.file(name), data: name });
    const names = { from: ecryptfs.file('a'), to: ecryptfs.file('b') };
    for (const flags of ['RENAME_EXCHANGE', 'RENAME_WHITEOUT']) {
      t.is(await client.errno.rename({ ...names, flags }), 'EINVAL', flags);
    }
    t.is(await client.errno.rename(names), 'ok');

    await using limited = await guest.client();
    const fd = await limited.open({ path: ecryptfs.file('b'), flags: 'O_RDWR' });
    await limited.signal({ signal: 'SIGXFSZ', disposition: 'ignore' });
    await limited.setrlimit({ resource: 'RLIMIT_FSIZE', soft: HEADER_BYTES + 4 * PAGE });
    t.is(await limited.errno.ftruncate({ fd, length: 4 * PAGE }), 'ok', 'with its header it is just as long');
    t.is(await limited.errno.ftruncate({ fd, length: 4 * PAGE + 1 }), 'EFBIG', 'a page more');
    t.is((await limited.fstat({ fd })).size, 4 * PAGE);
    await limited.close({ fd });
  },
);

guestTest(
  'what lies behind the end in the last page on ecryptfs is zeros, whatever memory had (E6)',
  async (t, guest) => {
    await using client = await guest.client();
    const lower = await guest.directory('ext4', 'encrypted');
    await using ecryptfs = await guest.mountEcryptfs({ lower }, client);
    const path = ecryptfs.file('f');
    await client.writeFile({ path, data: pattern(2 * PAGE) });
    const fd = await client.open({ path, flags: 'O_RDWR' });
    // The end is in a page of which memory had more before.
    await client.ftruncate({ fd, length: PAGE });
    await client.pwrite({ fd, data: 'new', offset: PAGE + 50 });
    const map = await client.mmap({
      fd,
      length: 2 * PAGE,
      prot: 'PROT_READ|PROT_WRITE',
      flags: 'MAP_SHARED',
    });
    const last = await client.mread({ map, offset: PAGE, length: PAGE });
    let expected = patched(new Uint8Array(PAGE), 50, bytes('new'));
    t.is(firstDifference(last, expected), undefined, 'zeros before and behind what was written');
    await client.mwrite({ map, offset: PAGE + 100, data: bytes('stored behind the end') });
    // A write to the page clears what is behind it, also what others have stored there.
    await client.pwrite({ fd, data: 'NEW', offset: PAGE + 50 });
    const cleared = await client.mread({ map, offset: PAGE + 100, length: 21 });
    t.deepEqual(cleared, new Uint8Array(21), 'behind the end, after a write');
    await client.munmap({ map });
    await client.ftruncate({ fd, length: 2 * PAGE });
    const seen = await client.pread({ fd, count: PAGE, offset: PAGE });
    expected = patched(expected, 50, bytes('NEW'));
    t.is(firstDifference(seen, expected), undefined, 'after growing');
    await client.ftruncate({ fd, length: 4 * PAGE });
    const added = await client.pread({ fd, count: 2 * PAGE, offset: 2 * PAGE });
    t.is(firstDifference(added, new Uint8Array(2 * PAGE)), undefined, 'whole pages that were added');
    await client.close({ fd });
  },
);

guestTest(
  'what is stored in a mapping of ecryptfs is on the disk, encrypted, and there again (E6)',
  async (t, guest) => {
    await using client = await guest.client();
    const lower = await guest.directory('ext4', 'encrypted');
    const data = pattern(2 * PAGE);
    {
      await using ecryptfs = await guest.mountEcryptfs({ lower }, client);
      await client.writeFile({ path: ecryptfs.file('f'), data });
      const fd = await client.open({ path: ecryptfs.file('f'), flags: 'O_RDWR' });
      const map = await client.mmap({
        fd,
        length: 2 * PAGE,
        prot: 'PROT_READ|PROT_WRITE',
        flags: 'MAP_SHARED',
      });
      const stored = bytes('this was stored in a mapping');
      await client.mwrite({ map, offset: PAGE - 10, data: stored });
      data.set(stored, PAGE - 10);
      await client.msync({ map, flags: 'MS_SYNC' });
      const disk = await client.readFile({ path: `${lower}/f` });
      t.false(Buffer.from(disk).includes('stored in a mapping'), 'not in the clear');
      await client.munmap({ map });
      await client.close({ fd });
      t.is(await ecryptfs.unmount(), 'ok');
    }
    await using ecryptfs = await guest.mountEcryptfs({ lower }, client);
    t.is(firstDifference(await client.readFile({ path: ecryptfs.file('f') }), data), undefined);
  },
);

/** By what makes the file longer: how, to a size of 2001 bytes. */
const LONGER: Readonly<Record<string, (client: Client, fd: number) => Promise<unknown>>> = {
  'a write': (client, fd) => client.pwrite({ fd, data: 'y', offset: 2000 }),
  'a truncation': (client, fd) => client.ftruncate({ fd, length: 2001 }),
};

for (const [what, makeLonger] of Object.entries(LONGER)) {
  guestTest(
    `what was stored behind the end in a mapping of ecryptfs does not show when ${what} makes the file longer (E6)`,
    async (t, guest) => {
      await using client = await guest.client();
      const lower = await guest.directory('ext4', 'encrypted');
      await using ecryptfs = await guest.mountEcryptfs({ lower }, client);
      const fd = await client.open({ path: ecryptfs.file('f'), flags: 'O_RDWR|O_CREAT' });
      await client.pwrite({ fd, data: pattern(100), offset: 0 });
      const map = await client.mmap({ fd, length: PAGE, prot: 'PROT_READ|PROT_WRITE', flags: 'MAP_SHARED' });
      await client.mwrite({ map, offset: 200, data: bytes('stored behind the end') });
      t.is((await client.fstat({ fd })).size, 100, 'which a store does not move');
      await makeLonger(client, fd);
      t.is((await client.fstat({ fd })).size, 2001);
      const between = await client.pread({ fd, count: 1900, offset: 100 });
      t.is(firstDifference(between, new Uint8Array(1900)), undefined, 'zeros from the old end on');
      await client.munmap({ map });
      await client.close({ fd });
    },
  );
}
