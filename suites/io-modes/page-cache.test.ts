import { firstDifference, pattern, text } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import { eventually } from '../lib/eventually.ts';
import { OpenFlag } from '../lib/fuse-abi.ts';
import type { FuseMount, FuseOptions } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';
import { mountWritebackCache } from '../lib/writeback-cache.ts';

/** The page cache of FUSE where nothing is in passthrough mode: what is in it must not outlive its truth. */

const PAGE = 4096;
const HOUR_S = 3600;
/** In the stack of a thread: for its being written back, or for whoever has it locked and waits for that. */
const WAITS_FOR_A_PAGE = /fuse_wait_on_page_writeback|folio_wait_bit/;

/** A file whose first page is in the cache of FUSE: opens keep it, and the kernel believes attributes for an hour. */
async function cachedFile(
  guest: TestGuest,
  client: Client,
  options: FuseOptions = {},
): Promise<{ fuse: FuseMount; fd: number }> {
  // With AUTO_INVAL_DATA every read asks, and pages would go by what it is told.
  const init = { dropFlags: ['AUTO_INVAL_DATA'] } as const;
  const fuse = await guest.mountFuse({ passthrough: 'off', attrValidS: HOUR_S, init, ...options });
  await fuse.answerOpen('OPEN', { openFlags: OpenFlag.KEEP_CACHE });
  await client.writeFile({ path: fuse.backing('f'), data: 'old contents' });
  const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
  await client.pread({ fd, count: 12, offset: 0 });
  return { fuse, fd };
}

guestTest('truncating a cached file takes its pages out of the cache', async (t, guest) => {
  const cuts: Readonly<Record<string, (client: Client, fd: number, path: string) => Promise<unknown>>> = {
    'O_TRUNC that travels in OPEN': async (client, _fd, path) =>
      client.close({ fd: await client.open({ path, flags: 'O_WRONLY|O_TRUNC' }) }),
    ftruncate: (client, fd) => client.ftruncate({ fd, length: 0 }),
    truncate: (client, _fd, path) => client.truncate({ path, length: 0 }),
  };
  await using client = await guest.client();
  for (const [what, cut] of Object.entries(cuts)) {
    const { fuse, fd } = await cachedFile(guest, client);
    await using _fuse = fuse;
    await cut(client, fd, fuse.file('f'));
    const { size } = await client.fstat({ fd, flags: 'AT_STATX_DONT_SYNC' });
    t.is(size, 0, `${what}: the size`);
    await client.pwrite({ fd, data: 'new', offset: PAGE });
    const seen = await client.pread({ fd, count: 12, offset: 0 });
    t.deepEqual(seen, new Uint8Array(12), `${what}: what was cut off reads as zeros`);
    await client.close({ fd });
  }
});

guestTest('an open that would have emptied a file and failed leaves it in the cache', async (t, guest) => {
  await using client = await guest.client();
  const { fuse, fd } = await cachedFile(guest, client);
  await using _fuse = fuse;
  const after = await fuse.position();
  await fuse.fail('OPEN', 'EACCES', 1);
  t.is(await client.errno.open({ path: fuse.file('f'), flags: 'O_WRONLY|O_TRUNC' }), 'EACCES');
  t.is((await client.fstat({ fd, flags: 'AT_STATX_DONT_SYNC' })).size, 12, 'the size');
  t.is(text(await client.pread({ fd, count: 12, offset: 0 })), 'old contents');
  t.deepEqual(await fuse.opcodes({ opcode: 'READ', after }), [], 'the pages are there still');
  await client.close({ fd });
});

guestTest('after an open that truncates the attributes are asked for again', async (t, guest) => {
  for (const passthrough of ['off', 'auto'] as const) {
    await using fuse = await guest.mountFuse({ passthrough, attrValidS: HOUR_S });
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'old contents' });
    const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR|O_TRUNC' });
    const after = await fuse.position();
    const { size, mtimeNs } = await client.fstat({ fd });
    const native = await client.stat({ path: fuse.backing('f') });
    t.deepEqual([size, mtimeNs], [0, native.mtimeNs], `passthrough ${passthrough}`);
    t.deepEqual(await fuse.opcodes({ opcode: 'GETATTR', after }), ['GETATTR'], `passthrough ${passthrough}`);
    await client.close({ fd });
  }
});

guestTest('what changes at the server is noticed by what the kernel asks anyway', async (t, guest) => {
  await using client = await guest.client();
  const read = async (fd: number) => text(await client.pread({ fd, count: 100, offset: 0 }));

  const other = await cachedFile(guest, client, { init: { dropFlags: ['AUTO_INVAL_DATA'] } });
  await using _other = other.fuse;
  await client.writeFile({ path: other.fuse.backing('f'), data: 'of another size', flags: 'O_WRONLY' });
  // Beyond the end that is known here: only the server can say whether there is more.
  await client.fstat({ fd: other.fd, flags: 'AT_STATX_FORCE_SYNC' });
  t.is(await read(other.fd), 'of another size', 'another size: the pages go');
  await client.close({ fd: other.fd });

  const same = await cachedFile(guest, client, { attrValidS: 0, init: { addFlags: ['AUTO_INVAL_DATA'] } });
  await using _same = same.fuse;
  await client.writeFile({ path: same.fuse.backing('f'), data: 'NEW CONTENTS', flags: 'O_WRONLY' });
  await client.utimens({ path: same.fuse.backing('f'), atimeNs: null, mtimeNs: 1_000_000_000 });
  // Not at the end, where a read asks without AUTO_INVAL_DATA, too.
  const beginning = text(await client.pread({ fd: same.fd, count: 3, offset: 0 }));
  t.is(beginning, 'NEW', 'another time of the last change, with AUTO_INVAL_DATA');
  await client.close({ fd: same.fd });

  const grown = await cachedFile(guest, client, { attrValidS: 0, init: { dropFlags: ['AUTO_INVAL_DATA'] } });
  await using _grown = grown.fuse;
  const after = await grown.fuse.position();
  await client.pread({ fd: grown.fd, count: 3, offset: 0 });
  const asked = await grown.fuse.opcodes({ opcode: ['GETATTR', 'STATX'], after });
  t.deepEqual(asked, [], 'a read before the end asks for nothing without AUTO_INVAL_DATA');
  await client.writeFile({ path: grown.fuse.backing('f'), data: ' and more', flags: 'O_WRONLY|O_APPEND' });
  t.regex(await read(grown.fd), / and more$/, 'a read at the end asks for the size first');
  await client.close({ fd: grown.fd });
});

for (const [what, flags, seen] of [
  ['without flags', [], 'NEW CONTENTS'],
  ['with EXPLICIT_INVAL_DATA', ['EXPLICIT_INVAL_DATA'], 'old contents'],
  ['with both flags', ['EXPLICIT_INVAL_DATA', 'AUTO_INVAL_DATA'], 'NEW CONTENTS'],
] as const) {
  const stay = seen === 'old contents' ? 'stay until the server says so' : 'go';
  guestTest(`${what} pages of a file that has another size ${stay}`, async (t, guest) => {
    await using client = await guest.client();
    const { fuse, fd } = await cachedFile(guest, client, { init: { addFlags: flags } });
    await using _fuse = fuse;
    await client.writeFile({ path: fuse.backing('f'), data: 'NEW CONTENTS and more', flags: 'O_WRONLY' });
    t.is((await client.fstat({ fd, flags: 'AT_STATX_FORCE_SYNC' })).size, 21, 'the new size is known');
    const read = async (): Promise<string> => text(await client.pread({ fd, count: 12, offset: 0 }));
    t.is(await read(), seen, 'what was in the cache');
    t.is(await fuse.notify({ inode: '/f', offset: 0, length: 0 }), 'ok');
    t.is(await read(), 'NEW CONTENTS', 'after the server’s word');
    await client.close({ fd });
  });
}

guestTest('a direct open reads and maps what the server has, not old pages', async (t, guest) => {
  await using client = await guest.client();
  const { fuse, fd } = await cachedFile(guest, client);
  await using _fuse = fuse;
  await client.writeFile({ path: fuse.backing('f'), data: 'NEW CONTENTS', flags: 'O_WRONLY' });
  t.is(text(await client.pread({ fd, count: 12, offset: 0 })), 'old contents', 'it is in the cache');
  await fuse.answerOpen('OPEN', { openFlags: OpenFlag.DIRECT_IO | OpenFlag.KEEP_CACHE }, 1);
  const direct = await client.open({ path: fuse.file('f'), flags: 'O_RDONLY' });
  t.is(text(await client.pread({ fd: direct, count: 12, offset: 0 })), 'NEW CONTENTS', 'read');
  const map = await client.mmap({ fd: direct, length: PAGE, prot: 'PROT_READ', flags: 'MAP_PRIVATE' });
  t.is(text(await client.mread({ map, offset: 0, length: 12 })), 'NEW CONTENTS', 'a private mapping');
  await client.munmap({ map });
  for (const each of [fd, direct]) await client.close({ fd: each });
});

guestTest('after a direct read the access time is asked for again (A40)', async (t, guest) => {
  await using client = await guest.client();
  const { fuse, fd } = await cachedFile(guest, client);
  await using _fuse = fuse;
  await fuse.answerOpen('OPEN', { openFlags: OpenFlag.DIRECT_IO }, 1);
  const direct = await client.open({ path: fuse.file('f'), flags: 'O_RDONLY' });
  await client.fstat({ fd: direct });
  const after = await fuse.position();
  await client.fstat({ fd: direct });
  t.deepEqual(await fuse.opcodes({ opcode: 'GETATTR', after }), [], 'believed for an hour');
  await client.pread({ fd: direct, count: 5, offset: 0 });
  await client.fstat({ fd: direct });
  t.deepEqual(await fuse.opcodes({ opcode: 'GETATTR', after }), ['GETATTR'], 'after a read');
  for (const each of [fd, direct]) await client.close({ fd: each });
});

guestTest(
  'a read across the end that the kernel believes in finds what the server has added',
  async (t, guest) => {
    const size = 100;
    const grown = pattern(PAGE + 50);
    const [within, across] = [size, grown.length];
    const ways: Readonly<Record<string, readonly [FuseOptions, flags: string, finds: number]>> = {
      'attributes that are believed': [{ attrValidS: HOUR_S }, 'O_RDONLY', within],
      'attributes that have expired': [{ attrValidS: 0 }, 'O_RDONLY', across],
      'a direct read, in parts': [
        { attrValidS: HOUR_S, init: { addFlags: ['ASYNC_DIO'], dropFlags: ['AUTO_INVAL_DATA'] } },
        'O_RDONLY|O_DIRECT',
        across,
      ],
    };
    await using client = await guest.client();
    const buffer = 2 * PAGE;
    for (const [what, [options, flags, finds]] of Object.entries(ways)) {
      const init = { dropFlags: ['AUTO_INVAL_DATA'] } as const;
      await using fuse = await guest.mountFuse({ passthrough: 'off', init, ...options });
      await client.writeFile({ path: fuse.backing('f'), data: grown.subarray(0, size) });
      const fd = await client.open({ path: fuse.file('f'), flags });
      await client.writeFile({ path: fuse.backing('f'), data: grown });
      const read = await client.pread({ fd, count: buffer, offset: 0 });
      t.is(firstDifference(read, grown.subarray(0, finds)), undefined, what);
      await client.close({ fd });
    }
  },
);

/** A file in the writeback cache. */
async function writtenBack(guest: TestGuest, client: Client) {
  const fuse = await mountWritebackCache(guest);
  await client.writeFile({ path: fuse.backing('f'), data: 'old contents' });
  const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
  /** What is sent after a write that waits, each kind once: how many WRITEs a page is is the kernel's business. */
  const sent = async (work: () => Promise<unknown>) => {
    // A write to part of a page reads the rest first.
    await client.pread({ fd, count: 12, offset: 0 });
    const after = await fuse.position();
    await client.pwrite({ fd, data: 'NEW', offset: 0 });
    await work();
    const all = await fuse.opcodes({ opcode: ['WRITE', 'FSYNC', 'FLUSH', 'READ'], after });
    return all.filter((opcode, at) => opcode !== all[at - 1]);
  };
  return { fuse, fd, sent };
}

guestTest('pages that wait in the writeback cache are written before FSYNC and FLUSH', async (t, guest) => {
  await using client = await guest.client();
  const { fuse, fd, sent } = await writtenBack(guest, client);
  await using _fuse = fuse;
  t.deepEqual(await sent(() => client.fstat({ fd })), [], 'a write waits');
  t.deepEqual(await sent(() => client.fsync({ fd })), ['WRITE', 'FSYNC'], 'fsync');
  const closed = await sent(async () => client.close({ fd: await client.dup({ fd }) }));
  t.deepEqual(closed, ['WRITE', 'FLUSH'], 'close');
  await client.close({ fd });
});

guestTest('an open that empties the cache has what waits in it written before', async (t, guest) => {
  await using client = await guest.client();
  const { fuse, fd } = await writtenBack(guest, client);
  await using _fuse = fuse;
  await client.pwrite({ fd, data: 'NEW', offset: 0 });
  const other = await client.open({ path: fuse.file('f'), flags: 'O_RDONLY' });
  t.is(text(await client.pread({ fd: other, count: 12, offset: 0 })), 'NEW contents', 'what the open reads');
  t.is(text(await client.readFile({ path: fuse.backing('f') })), 'NEW contents', 'what the server has');
  for (const each of [fd, other]) await client.close({ fd: each });
});

guestTest('pages that wait in the writeback cache are written before a direct read', async (t, guest) => {
  guest.needs(guest.expected.hasIoModes, 'direct reads that look at what waits in the cache');
  await using client = await guest.client();
  const { fuse, fd, sent } = await writtenBack(guest, client);
  await using _fuse = fuse;
  await fuse.answerOpen('OPEN', { openFlags: OpenFlag.DIRECT_IO }, 1);
  const direct = await client.open({ path: fuse.file('f'), flags: 'O_RDONLY' });
  const read = await sent(async () => {
    t.is(text(await client.pread({ fd: direct, count: 12, offset: 0 })), 'NEW contents');
  });
  t.deepEqual(read, ['WRITE', 'READ']);
  for (const each of [fd, direct]) await client.close({ fd: each });
});

guestTest('a write to a page that is being written back from a mapping comes after it', async (t, guest) => {
  await using client = await guest.client();
  const { fuse, fd } = await cachedFile(guest, client);
  await using _fuse = fuse;
  // Of its own process: one whose store waits may wait for its address space with whatever else it does.
  await using other = await guest.client();
  const written = await other.open({ path: fuse.file('f'), flags: 'O_WRONLY' });
  const map = await client.mmap({ fd, length: PAGE, prot: 'PROT_READ|PROT_WRITE', flags: 'MAP_SHARED' });
  const hold = await fuse.hold('WRITE');
  // The page may be written back before the store that made it writable is done: then the store waits as well.
  const storing = client.mwrite({ map, offset: 0, data: new Uint8Array(Buffer.from('NEW')) });
  const flushing = storing.then(() =>
    client.sync_file_range({ fd, offset: 0, length: 0, flags: 'SYNC_FILE_RANGE_WRITE' }),
  );
  flushing.catch(() => undefined);
  const first = await hold.arrived();
  const writing = other.pwrite({ fd: written, data: 'written', offset: 4 });
  writing.catch(() => undefined);
  const where = await eventually(
    async () => ((await fuse.opcodes('WRITE')).length > 1 ? 'at the server' : await guest.where(other.pid)),
    (text) => text === 'at the server' || WAITS_FOR_A_PAGE.test(text),
  );
  t.regex(where, WAITS_FOR_A_PAGE, 'the write waits for the page');
  await hold.stop();
  await hold.release(first);
  await Promise.all([flushing, writing]);
  await other.close({ fd: written });
  await client.munmap({ map });
  await client.close({ fd });
  t.is(text(await client.readFile({ path: fuse.backing('f') })), 'NEW writtens', 'both are at the server');
});

guestTest(
  'munmap brings what was stored to the server, also when the file is closed already',
  async (t, guest) => {
    await using client = await guest.client();
    const { fuse, fd } = await cachedFile(guest, client);
    await using _fuse = fuse;
    const map = await client.mmap({ fd, length: PAGE, prot: 'PROT_READ|PROT_WRITE', flags: 'MAP_SHARED' });
    await client.close({ fd });
    await client.mwrite({ map, offset: 0, data: new Uint8Array(Buffer.from('NEW')) });
    await client.munmap({ map });
    // It is sent, and its answer not waited for: the page has been copied.
    const stored = await eventually(
      async () => text(await client.readFile({ path: fuse.backing('f') })),
      (seen) => seen === 'NEW contents',
    );
    t.is(stored, 'NEW contents', 'at the server soon after munmap');
  },
);

guestTest(
  'pages that wait in the writeback cache are written before FALLOCATE and COPY_FILE_RANGE',
  async (t, guest) => {
    await using client = await guest.client();
    const { fuse, fd } = await writtenBack(guest, client);
    await using _fuse = fuse;
    const other = await client.open({ path: fuse.file('g'), flags: 'O_RDWR|O_CREAT' });
    const kinds = ['WRITE', 'FALLOCATE', 'COPY_FILE_RANGE', 'COPY_FILE_RANGE_64'] as const;
    const sent = async (work: () => Promise<unknown>): Promise<string[]> => {
      const after = await fuse.position();
      await client.pwrite({ fd, data: 'NEW', offset: 0 });
      await work();
      const all = await fuse.opcodes({ opcode: [...kinds], after });
      return all.filter((opcode, at) => opcode !== all[at - 1]).map((opcode) => opcode.replace('_64', ''));
    };
    const copy = { fdIn: fd, offIn: 0, fdOut: other, offOut: 0, length: 12 };
    t.deepEqual(await sent(() => client.copy_file_range(copy)), ['WRITE', 'COPY_FILE_RANGE']);
    t.is(text(await client.readFile({ path: fuse.backing('g') })), 'NEW contents');
    const mode = 'FALLOC_FL_PUNCH_HOLE|FALLOC_FL_KEEP_SIZE';
    t.deepEqual(await sent(() => client.fallocate({ fd, mode, offset: 0, length: 4 })), [
      'WRITE',
      'FALLOCATE',
    ]);
    await client.fsync({ fd });
    t.is(text(await client.readFile({ path: fuse.backing('f') })), '\0\0\0\0contents', 'the hole stays one');
    for (const each of [fd, other]) await client.close({ fd: each });
  },
);

guestTest('a write in the writeback cache makes the file as long as it says, at once', async (t, guest) => {
  await using client = await guest.client();
  const { fuse, fd } = await writtenBack(guest, client);
  await using _fuse = fuse;
  await client.pwrite({ fd, data: 'far', offset: 2 * PAGE });
  t.is((await client.fstat({ fd })).size, 2 * PAGE + 3);
  t.is(await client.lseek({ fd, offset: 0, whence: 'SEEK_END' }), 2 * PAGE + 3);
  const read = await client.pread({ fd, count: 2 * PAGE, offset: PAGE });
  t.is(text(read), `${'\0'.repeat(PAGE)}far`, 'a hole and what was written');
  await client.close({ fd });
  t.is((await client.stat({ path: fuse.backing('f') })).size, 2 * PAGE + 3, 'at the server after close');
});

guestTest(
  'with the writeback cache the times of a file are the kernel’s own, also after a link',
  async (t, guest) => {
    await using client = await guest.client();
    const { fuse, fd } = await writtenBack(guest, client);
    await using _fuse = fuse;
    const ctime = async (): Promise<number> =>
      (await client.fstat({ fd, flags: 'AT_STATX_DONT_SYNC' })).ctimeNs;
    let last = await ctime();
    let links = 0;
    const changes: Readonly<Record<string, () => Promise<unknown>>> = {
      'a write': () => client.pwrite({ fd, data: 'NEW', offset: 0 }),
      'a link': () => client.link({ from: fuse.file('f'), to: fuse.file(`link-${links++}`) }),
    };
    for (const [what, change] of Object.entries(changes)) {
      let now = last;
      // What is done in one tick of the clock has one time.
      for (let tries = 0; tries < 100 && now === last; tries++) {
        await change();
        now = await ctime();
      }
      t.true(now > last, `${what} moves the ctime`);
      last = now;
    }
    await client.close({ fd });
  },
);
