import { bytes, pattern, text } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import { guestTest } from '../lib/guest-test.ts';

/** Where `size` stands in the answer to GETATTR: behind validity (16 bytes) and the inode number. */
const ATTR_SIZE_AT = 24;

const PAGE = 4096;
/** A position that FUSE knows and ext4 does not: its files end at 16 TiB. */
const BEYOND_EXT4 = 2 ** 50;
type Write = (client: Client, fd: number) => Promise<unknown>;

/** Every way to write that makes the file longer. */
const WRITES: Readonly<Record<string, Write>> = {
  pwrite: (client, fd) => client.pwrite({ fd, data: pattern(3000), offset: 9000 }),
  write: async (client, fd) => {
    await client.lseek({ fd, offset: 9000, whence: 'SEEK_SET' });
    await client.write({ fd, data: pattern(3000) });
  },
  pwritev2: (client, fd) => client.pwritev2({ fd, chunks: [pattern(1000), pattern(2000)], offset: 9000 }),
  aio: (client, fd) => {
    return client.aio({ operations: [{ op: 'pwrite', fd, data: pattern(3000), offset: 9000 }] });
  },
  splice: async (client, fd) => {
    const [fdIn, end] = await client.pipe({});
    await client.write({ fd: end, data: pattern(3000) });
    await client.splice({ fdIn, fdOut: fd, offOut: 9000, length: 3000 });
    for (const each of [fdIn, end]) await client.close({ fd: each });
  },
};

guestTest('size, blocks and times are right at once, whichever way was written (A41)', async (t, guest) => {
  // The kernel may believe attributes for an hour: it has to know by itself that these have changed.
  await using fuse = await guest.mountFuse({ attrValidS: 3600 });
  await using client = await guest.client();
  for (const [name, write] of Object.entries(WRITES)) {
    await client.writeFile({ path: fuse.backing(name), data: 'short' });
    const fd = await client.open({ path: fuse.file(name), flags: 'O_RDWR' });
    t.is((await client.fstat({ fd })).size, 5);
    await write(client, fd);
    const own = await client.fstat({ fd, flags: 'AT_STATX_DONT_SYNC' });
    t.is(own.size, 12_000, `${name}: what the kernel knows before it asks`);
    const { size, blocks, mtimeNs, ctimeNs } = await client.fstat({ fd });
    const native = await client.stat({ path: fuse.backing(name) });
    const expected = {
      size: 12_000,
      blocks: native.blocks,
      mtimeNs: native.mtimeNs,
      ctimeNs: native.ctimeNs,
    };
    t.deepEqual({ size, blocks, mtimeNs, ctimeNs }, expected, name);
    await client.close({ fd });
  }
  t.deepEqual(await fuse.dataRequests(), []);
});

/** Every other call that may change the size of 10 000 bytes, and the size then. */
const RESIZES: Readonly<
  Record<
    string,
    { readonly call: (client: Client, path: string, fd: number) => Promise<unknown>; size: number }
  >
> = {
  ftruncate: { call: (client, _path, fd) => client.ftruncate({ fd, length: 9000 }), size: 9000 },
  truncate: { call: (client, path) => client.truncate({ path, length: 11_000 }), size: 11_000 },
  'an open with O_TRUNC': {
    call: async (client, path) =>
      client.close({ fd: await client.open({ path, flags: 'O_WRONLY|O_TRUNC' }) }),
    size: 0,
  },
  fallocate: {
    call: (client, _path, fd) => client.fallocate({ fd, offset: 8000, length: 5000 }),
    size: 13_000,
  },
  'fallocate inside the file': {
    call: (client, _path, fd) => client.fallocate({ fd, offset: 0, length: 5000 }),
    size: 10_000,
  },
  'fallocate that keeps the size': {
    call: (client, _path, fd) => {
      return client.fallocate({ fd, mode: 'FALLOC_FL_KEEP_SIZE', offset: 8000, length: 5000 });
    },
    size: 10_000,
  },
  'copy_file_range to behind the end': {
    call: (client, _path, fd) => {
      return client.copy_file_range({ fdIn: fd, offIn: 100, fdOut: fd, offOut: 9500, length: 1000 });
    },
    size: 10_500,
  },
};

for (const mode of ['passthrough', 'cached'] as const) {
  guestTest(
    `the kernel knows the size at once after calls that the server carries out, in ${mode} mode (A41)`,
    async (t, guest) => {
      const passthrough = mode === 'cached' ? 'off' : 'auto';
      await using fuse = await guest.mountFuse({ attrValidS: 3600, passthrough });
      await using client = await guest.client();
      for (const [what, { call, size }] of Object.entries(RESIZES)) {
        await client.writeFile({ path: fuse.backing(what), data: pattern(10_000) });
        const path = fuse.file(what);
        const fd = await client.open({ path, flags: 'O_RDWR' });
        await call(client, path, fd);
        const own = await client.fstat({ fd, flags: 'AT_STATX_DONT_SYNC' });
        t.is(own.size, size, `${what}: what the kernel knows before it asks`);
        t.is((await client.fstat({ fd })).size, size, `${what}: what the server says`);
        t.is((await client.stat({ path: fuse.backing(what) })).size, size, `${what}: the file itself`);
        await client.close({ fd });
      }
    },
  );
}

guestTest('times that are set are what stat says from then on, unasked (A40)', async (t, guest) => {
  await using fuse = await guest.mountFuse({ entryValidS: 3600, attrValidS: 3600 });
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'x' });
  const path = fuse.file('f');
  const fd = await client.open({ path, flags: 'O_RDWR' });
  const [atimeNs, mtimeNs] = [1_500_000_000_000_000_000, 1_600_000_000_000_000_000];
  await client.utimens({ path, atimeNs, mtimeNs });
  const after = await fuse.position();
  const stat = await client.fstat({ fd });
  t.deepEqual([stat.atimeNs, stat.mtimeNs], [atimeNs, mtimeNs], 'access and change');
  t.deepEqual(await fuse.opcodes({ opcode: 'GETATTR', after }), [], 'from memory');
  const native = await client.stat({ path: fuse.backing('f') });
  t.is(stat.ctimeNs, native.ctimeNs, 'the time of the last change of attributes');
  await client.close({ fd });
});

guestTest('a write inside the file does not make it shorter or longer (A41)', async (t, guest) => {
  await using fuse = await guest.mountFuse({ attrValidS: 3600 });
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: pattern(10_000) });
  const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });

  await client.pwrite({ fd, data: 'inside', offset: 100 });
  t.is((await client.fstat({ fd, flags: 'AT_STATX_DONT_SYNC' })).size, 10_000, 'as the kernel has it');
  t.is((await client.fstat({ fd })).size, 10_000, 'as the server says');
  await client.close({ fd });
  t.deepEqual(await fuse.dataRequests(), []);
});

guestTest(
  'the kernel grows the size by itself, and then the server’s word counts (A47)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse({ attrValidS: 3600 });
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'short' });
    const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
    const asked = await fuse.position();

    await client.pwrite({ fd, data: pattern(4000), offset: 5000 });
    t.is((await client.fstat({ fd, flags: 'AT_STATX_DONT_SYNC' })).size, 9000);
    t.deepEqual(await fuse.requests({ opcode: 'GETATTR', after: asked }), [], 'nobody was asked for that');
    const size = new Uint8Array(8);
    new DataView(size.buffer).setBigUint64(0, 4096n, true);
    await fuse.rule({ match: { opcode: 'GETATTR' }, action: { do: 'patch', at: ATTR_SIZE_AT, bytes: size } });
    const end = guest.expected.asksSizeAfterWrite ? 4096 : 9000;
    t.is(
      await client.lseek({ fd, offset: 0, whence: 'SEEK_END' }),
      end,
      'SEEK_END, with or without the server',
    );
    t.is((await client.fstat({ fd })).size, 4096, 'stat asks the server');
    await client.close({ fd });
    t.deepEqual(await fuse.dataRequests(), []);
  },
);

/** Ways to write where the backing filesystem has no room in a file. */
const REFUSED: Readonly<Record<string, (client: Client, fd: number) => Promise<string>>> = {
  pwrite: (client, fd) => client.errno.pwrite({ fd, data: 'x', offset: BEYOND_EXT4 }),
  splice: async (client, fd) => {
    const [fdIn, end] = await client.pipe({});
    await client.write({ fd: end, data: 'x' });
    const errno = await client.errno.splice({ fdIn, fdOut: fd, offOut: BEYOND_EXT4, length: 1 });
    for (const each of [fdIn, end]) await client.close({ fd: each });
    return errno;
  },
};

guestTest('a write that fails makes the attributes be asked for again (A39, A41)', async (t, guest) => {
  // Whoever tells nothing of a write that succeeded does not of one that failed.
  const ways = guest.expected.asksSizeAfterWrite ? (['auto', 'off'] as const) : (['off'] as const);
  for (const passthrough of ways) {
    await using fuse = await guest.mountFuse({ passthrough, attrValidS: 3600 });
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
    const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
    for (const [how, write] of Object.entries(REFUSED)) {
      const what = `passthrough ${passthrough}, ${how}`;
      const after = await fuse.position();
      await client.fstat({ fd });
      t.deepEqual(await fuse.opcodes({ opcode: 'GETATTR', after }), [], `${what}: believed for an hour`);
      const errno = await write(client, fd);
      t.is(errno, 'EFBIG', `${what}: more than the backing filesystem has room for in a file`);
      await client.fstat({ fd });
      t.deepEqual(await fuse.opcodes({ opcode: 'GETATTR', after }), ['GETATTR'], what);
    }
    await client.close({ fd });
  }
});

guestTest('a read is bounded by the backing file, not by the size FUSE believes (A35)', async (t, guest) => {
  await using fuse = await guest.mountFuse({ attrValidS: 3600 });
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'four' });
  const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDONLY' });
  t.is((await client.fstat({ fd })).size, 4);

  await client.writeFile({ path: fuse.backing('f'), data: ' and more', flags: 'O_WRONLY|O_APPEND' });
  t.is(text(await client.pread({ fd, count: 100, offset: 0 })), 'four and more', 'longer');
  await client.truncate({ path: fuse.backing('f'), length: 2 });
  t.is(text(await client.pread({ fd, count: 100, offset: 0 })), 'fo', 'shorter');
  await client.close({ fd });
  t.deepEqual(await fuse.dataRequests(), []);
});

guestTest(
  'what changes behind FUSE is read at once, and what FUSE writes is there at once (D15)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse({ attrValidS: 3600 });
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'first contents' });
    const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
    t.is(text(await client.pread({ fd, count: 100, offset: 0 })), 'first contents');

    await client.writeFile({ path: fuse.backing('f'), data: 'other contents', flags: 'O_WRONLY' });
    t.is(text(await client.pread({ fd, count: 100, offset: 0 })), 'other contents');
    await client.pwrite({ fd, data: 'third', offset: 0 });
    t.is(text(await client.readFile({ path: fuse.backing('f') })), 'third contents');
    await client.close({ fd });
    t.deepEqual(await fuse.dataRequests(), []);
  },
);

guestTest('after a read the access time is asked for again (A40)', async (t, guest) => {
  await using fuse = await guest.mountFuse({ attrValidS: 3600 });
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'x' });
  // Older than the last change: relatime has to touch it.
  await client.utimens({ path: fuse.backing('f'), atimeNs: 1_000_000_000, mtimeNs: null });
  const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDONLY' });
  t.is((await client.fstat({ fd })).atimeNs, 1_000_000_000);

  await client.pread({ fd, count: 1, offset: 0 });
  const native = await client.stat({ path: fuse.backing('f') });
  const { atimeNs } = await client.fstat({ fd });
  if (guest.expected.readMakesAtimeStale) t.is(atimeNs, native.atimeNs);
  else t.is(atimeNs, 1_000_000_000);
  await client.close({ fd });
});

guestTest(
  'SEEK_DATA and SEEK_HOLE are the server’s answer and agree with the backing file (A27)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse();
    await using client = await guest.client();
    const make = await client.open({ path: fuse.backing('f'), flags: 'O_RDWR|O_CREAT' });
    await client.pwrite({ fd: make, data: bytes('data'), offset: 16 * PAGE });
    await client.ftruncate({ fd: make, length: 40 * PAGE });
    const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });

    const seeks = [
      { offset: 0, whence: 'SEEK_DATA', at: 16 * PAGE },
      { offset: 0, whence: 'SEEK_HOLE', at: 0 },
      { offset: 16 * PAGE, whence: 'SEEK_HOLE', at: 17 * PAGE },
      { offset: 16 * PAGE + 2, whence: 'SEEK_DATA', at: 16 * PAGE + 2 },
    ] as const;
    for (const { at, ...seek } of seeks) {
      t.is(await client.lseek({ fd, ...seek }), at, `${seek.whence} from ${seek.offset}`);
      const position = await client.lseek({ fd, offset: 0, whence: 'SEEK_CUR' });
      t.is(position, at, `${seek.whence} from ${seek.offset}: the position of the next read`);
      t.is(await client.lseek({ fd: make, ...seek }), at, `${seek.whence} from ${seek.offset}, native`);
    }
    t.is(await client.errno.lseek({ fd, offset: 20 * PAGE, whence: 'SEEK_DATA' }), 'ENXIO');
    t.true((await fuse.requests('LSEEK')).length >= seeks.length);
    // After a write past the server its answer has the new data.
    await client.pwrite({ fd, data: 'x', offset: 30 * PAGE });
    t.is(await client.lseek({ fd, offset: 20 * PAGE, whence: 'SEEK_DATA' }), 30 * PAGE);
    // And those that it has got behind the end that is known here.
    await client.pwrite({ fd: make, data: bytes('more'), offset: 60 * PAGE });
    const behind = await client.lseek({ fd, offset: 50 * PAGE, whence: 'SEEK_DATA' });
    t.is(behind, 60 * PAGE, 'data behind the end that the kernel knows');
    for (const each of [make, fd]) await client.close({ fd: each });
    t.deepEqual(await fuse.dataRequests(), []);
  },
);
