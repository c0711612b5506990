import { bytes, text } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import { OpenFlag } from '../lib/fuse-abi.ts';
import type { FuseMount } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';
import { openErrno } from '../lib/open-errno.ts';

const {
  PASSTHROUGH,
  DIRECT_IO,
  KEEP_CACHE,
  NONSEEKABLE,
  CACHE_DIR,
  STREAM,
  NOFLUSH,
  PARALLEL_DIRECT_WRITES,
} = OpenFlag;
const SERVED = 'what the server would read';
const BACKING = 'what the backing file has';

/** `f` is what clients open; `b`, which differs, is what is registered: data tell where they come from. */
async function prepare(fuse: FuseMount, client: Client, flags = 'O_RDWR'): Promise<number> {
  await client.writeFile({ path: fuse.backing('f'), data: SERVED });
  await client.writeFile({ path: fuse.backing('b'), data: BACKING });
  return fuse.server.registerBacking({ path: fuse.backing('b'), flags });
}

function needsIds(guest: TestGuest): void {
  guest.needs(guest.expected.idsAreReusable, 'backing ids and their flag in the open answer');
}

const ACCEPTED: Readonly<Record<string, number>> = {
  alone: PASSTHROUGH,
  'with NOFLUSH': PASSTHROUGH | NOFLUSH,
  'with PARALLEL_DIRECT_WRITES': PASSTHROUGH | PARALLEL_DIRECT_WRITES,
  'with NOFLUSH and PARALLEL_DIRECT_WRITES': PASSTHROUGH | NOFLUSH | PARALLEL_DIRECT_WRITES,
};

guestTest(
  'PASSTHROUGH is accepted alone, with NOFLUSH and with PARALLEL_DIRECT_WRITES (B19)',
  async (t, guest) => {
    needsIds(guest);
    await using fuse = await guest.mountFuse({ passthrough: 'off' });
    await using client = await guest.client();
    const backingId = await prepare(fuse, client);
    for (const [what, openFlags] of Object.entries(ACCEPTED)) {
      await fuse.answerOpen('OPEN', { openFlags, backingId }, 1);
      t.is(text(await client.readFile({ path: fuse.file('f'), flags: 'O_RDWR' })), BACKING, what);
    }
    t.deepEqual(await fuse.dataRequests(), []);
  },
);

guestTest(
  'PASSTHROUGH with DIRECT_IO maps the backing file and sends reads and writes (A18, B19)',
  async (t, guest) => {
    needsIds(guest);
    await using fuse = await guest.mountFuse({ passthrough: 'off' });
    await using client = await guest.client();
    const backingId = await prepare(fuse, client);
    for (const openFlags of [PASSTHROUGH | DIRECT_IO, PASSTHROUGH | DIRECT_IO | PARALLEL_DIRECT_WRITES]) {
      const after = await fuse.position();
      await fuse.answerOpen('OPEN', { openFlags, backingId }, 1);
      const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
      t.is(text(await client.pread({ fd, count: 100, offset: 0 })), SERVED);
      const map = await client.mmap({ fd, length: 4096, prot: 'PROT_READ', flags: 'MAP_SHARED' });
      t.is(text(await client.mread({ map, offset: 0, length: BACKING.length })), BACKING);
      t.deepEqual(await fuse.opcodes({ opcode: ['READ', 'WRITE'], after }), ['READ']);
      await client.munmap({ map });
      await client.close({ fd });
    }
  },
);

const REFUSED: Readonly<Record<string, number>> = {
  KEEP_CACHE: KEEP_CACHE,
  NONSEEKABLE: NONSEEKABLE,
  CACHE_DIR: CACHE_DIR,
  STREAM: STREAM,
  'KEEP_CACHE and DIRECT_IO': KEEP_CACHE | DIRECT_IO,
  'unknown bit 8': 1 << 8,
  'unknown bit 30': 1 << 30,
};

guestTest(
  'PASSTHROUGH with any other flag fails the open with EIO and sends RELEASE (B19)',
  async (t, guest) => {
    needsIds(guest);
    await using fuse = await guest.mountFuse({ passthrough: 'off' });
    await using client = await guest.client();
    const backingId = await prepare(fuse, client);
    for (const [what, bits] of Object.entries(REFUSED)) {
      const after = await fuse.position();
      await fuse.answerOpen('OPEN', { openFlags: PASSTHROUGH | bits, backingId }, 1);
      t.is(await openErrno(client, fuse.file('f')), 'EIO', what);
      const opcodes = await fuse.opcodes({ opcode: ['OPEN', 'RELEASE', 'FLUSH'], after });
      t.deepEqual(opcodes, ['OPEN', 'RELEASE'], what);
    }
    await fuse.answerOpen('OPEN', { openFlags: PASSTHROUGH, backingId }, 1);
    t.is(text(await client.readFile({ path: fuse.file('f') })), BACKING, 'the inode took no harm');
    t.deepEqual(await fuse.dataRequests(), []);
  },
);

guestTest(
  'PASSTHROUGH with an id that cannot be, is unknown or closed fails with EIO and RELEASE (B18)',
  async (t, guest) => {
    needsIds(guest);
    await using fuse = await guest.mountFuse({ passthrough: 'off' });
    await using client = await guest.client();
    const backingId = await prepare(fuse, client);
    const closed = await fuse.server.registerBacking({ path: fuse.backing('b'), flags: 'O_RDWR' });
    t.is(await fuse.server.closeBacking(closed), 'ok');

    for (const id of [0, -1, -0x8000_0000, 999, 0x7fff_ffff, closed]) {
      const after = await fuse.position();
      await fuse.answerOpen('OPEN', { openFlags: PASSTHROUGH, backingId: id }, 1);
      t.is(await openErrno(client, fuse.file('f')), guest.expected.unknownIdAtOpen, `id ${id}`);
      const [open] = await fuse.requests({ opcode: 'OPEN', after });
      const releases = await fuse.requests({ opcode: 'RELEASE', after });
      t.deepEqual(
        releases.map(({ args }) => args['fh']),
        [open?.reply?.open?.fh],
        `RELEASE after id ${id}`,
      );
    }
    await fuse.answerOpen('OPEN', { openFlags: PASSTHROUGH, backingId }, 1);
    t.is(text(await client.readFile({ path: fuse.file('f') })), BACKING, 'a good id still works');
  },
);

guestTest('an id without PASSTHROUGH is a plain open (B21)', async (t, guest) => {
  needsIds(guest);
  await using fuse = await guest.mountFuse({ passthrough: 'off' });
  await using client = await guest.client();
  const good = await prepare(fuse, client);
  for (const backingId of [good, 999, -1]) {
    const after = await fuse.position();
    await fuse.answerOpen('OPEN', { openFlags: 0, backingId }, 1);
    t.is(text(await client.readFile({ path: fuse.file('f') })), SERVED, `id ${backingId}`);
    t.deepEqual(await fuse.opcodes({ opcode: 'READ', after }), ['READ'], `id ${backingId}`);
  }
});

guestTest('PASSTHROUGH in the answer to OPENDIR is ignored (B20)', async (t, guest) => {
  needsIds(guest);
  await using fuse = await guest.mountFuse({ passthrough: 'off' });
  await using client = await guest.client();
  const good = await prepare(fuse, client);
  for (const backingId of [good, 0, 999]) {
    await fuse.answerOpen('OPENDIR', { openFlags: PASSTHROUGH, backingId }, 1);
    t.deepEqual((await client.readdir({ path: fuse.path })).sort(), ['b', 'f'], `id ${backingId}`);
  }
  t.is((await fuse.requests('OPENDIR')).length, 3);
});

guestTest(
  'a server that ever answered OPEN with ENOSYS gets no more OPEN, so no passthrough (D18)',
  async (t, guest) => {
    const init = { addFlags: ['NO_OPEN_SUPPORT'] } as const;
    await using fuse = await guest.mountFuse({ passthrough: 'off', init });
    await using client = await guest.client();
    const backingId = await prepare(fuse, client);
    await fuse.fail('OPEN', 'ENOSYS', 1);
    await fuse.answerOpen('OPEN', { openFlags: guest.expected.passthroughFlag, backingId });
    await fuse.fail('OPEN', 'ENOSYS', 1);
    // Such a server knows no handles: reads come with fh 0.
    await fuse.rule({ match: { opcode: 'READ' }, action: { do: 'body', body: bytes(SERVED) } });

    for (const round of ['first', 'second']) {
      t.is(text(await client.readFile({ path: fuse.file('f') })), SERVED, `${round} open`);
    }
    t.deepEqual(await fuse.opcodes({ opcode: ['OPEN', 'RELEASE'] }), ['OPEN']);
    t.deepEqual(await fuse.opcodes('READ'), ['READ'], 'an open that nobody answers keeps the cache');
  },
);

guestTest(
  'a backing file that cannot be opened as asked fails the open with EIO, whatever the reason (F8)',
  async (t, guest) => {
    needsIds(guest);
    await using fuse = await guest.mountFuse({ passthrough: 'off' });
    await using client = await guest.client();
    await prepare(fuse, client);
    await using readOnly = await guest.mount({ source: fuse.root, type: 'none', flags: 'MS_BIND' });
    await client.mount({
      source: 'none',
      target: readOnly.path,
      type: 'none',
      flags: 'MS_REMOUNT|MS_BIND|MS_RDONLY',
    });
    const backingId = await fuse.server.registerBacking({ path: readOnly.file('b'), flags: 'O_RDONLY' });

    await fuse.answerOpen('OPEN', { openFlags: PASSTHROUGH, backingId });
    t.is(await client.errno.open({ path: readOnly.file('b'), flags: 'O_RDWR' }), 'EROFS', 'the inner errno');
    t.is(await openErrno(client, fuse.file('f'), 'O_RDWR'), 'EIO');
    t.is(await openErrno(client, fuse.file('f'), 'O_WRONLY'), 'EIO');
    t.is(text(await client.readFile({ path: fuse.file('f'), flags: 'O_RDONLY' })), BACKING);
    t.deepEqual(await fuse.dataRequests(), []);
    t.is(await fuse.server.closeBacking(backingId), 'ok');
  },
);

guestTest('O_DIRECT on a backing file that has none fails the open with EIO (A12)', async (t, guest) => {
  needsIds(guest);
  await using fuse = await guest.mountFuse({ passthrough: 'off' });
  await using client = await guest.client();
  await prepare(fuse, client);
  const path = '/sys/kernel/uevent_seqnum';
  const direct = await client.errno.open({ path, flags: 'O_RDONLY|O_DIRECT' });
  t.is(direct, 'EINVAL', 'sysfs has no direct I/O');
  const backingId = await fuse.server.registerBacking({ path, flags: 'O_RDONLY' });

  await fuse.answerOpen('OPEN', { openFlags: PASSTHROUGH, backingId });
  t.is(await openErrno(client, fuse.file('f'), 'O_RDONLY|O_DIRECT'), 'EIO');
  t.is(await openErrno(client, fuse.file('f'), 'O_RDONLY'), 'ok');
});

guestTest(
  'what the registered descriptor was opened for does not limit the open: only the opener asks (B10)',
  async (t, guest) => {
    needsIds(guest);
    await using fuse = await guest.mountFuse({ passthrough: 'off' });
    await using client = await guest.client();
    await prepare(fuse, client);
    for (const flags of ['O_RDONLY', 'O_WRONLY', 'O_PATH']) {
      const backingId = await fuse.server.registerBacking({ path: fuse.backing('b'), flags });
      await fuse.answerOpen('OPEN', { openFlags: PASSTHROUGH, backingId }, 1);
      const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
      await client.pwrite({ fd, data: flags, offset: 0 });
      t.is(text(await client.pread({ fd, count: flags.length, offset: 0 })), flags);
      await client.close({ fd });
      const backing = text(await client.readFile({ path: fuse.backing('b') }));
      t.is(backing.slice(0, flags.length), flags, `written through an ${flags} registration`);
    }
    t.deepEqual(await fuse.dataRequests(), []);
  },
);

guestTest(
  'CREATE with a bad id fails with EIO, the file exists and RELEASE is sent (B22)',
  async (t, guest) => {
    needsIds(guest);
    await using fuse = await guest.mountFuse({ passthrough: 'off' });
    await using client = await guest.client();
    for (const backingId of [0, -1, 999]) {
      const after = await fuse.position();
      const name = `new${backingId}`;
      await fuse.answerOpen('CREATE', { openFlags: PASSTHROUGH, backingId }, 1);
      t.is(await openErrno(client, fuse.file(name), 'O_RDWR|O_CREAT|O_EXCL'), 'EIO', `id ${backingId}`);
      t.is((await client.stat({ path: fuse.backing(name) })).size, 0, 'the file was made');
      const [create] = await fuse.requests({ opcode: 'CREATE', after });
      const releases = await fuse.requests({ opcode: 'RELEASE', after });
      t.deepEqual(
        releases.map(({ args }) => args['fh']),
        [create?.reply?.open?.fh],
        `RELEASE, id ${backingId}`,
      );
      t.is(await openErrno(client, fuse.file(name), 'O_RDWR'), 'ok', 'it can be opened afterwards');
    }
  },
);

guestTest(
  'CREATE with PASSTHROUGH and a refused flag fails with EIO and leaves the file (B19, B22)',
  async (t, guest) => {
    needsIds(guest);
    await using fuse = await guest.mountFuse({ passthrough: 'off' });
    await using client = await guest.client();
    const backingId = await prepare(fuse, client);
    await fuse.answerOpen('CREATE', { openFlags: PASSTHROUGH | KEEP_CACHE, backingId }, 1);
    t.is(await openErrno(client, fuse.file('new'), 'O_RDWR|O_CREAT'), 'EIO');
    t.deepEqual(await fuse.opcodes({ opcode: ['CREATE', 'RELEASE'] }), ['CREATE', 'RELEASE']);
    t.is(await client.errno.stat({ path: fuse.backing('new') }), 'ok');
  },
);
