import { text } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import { eventually } from '../lib/eventually.ts';
import { OpenFlag } from '../lib/fuse-abi.ts';
import type { FuseMount } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';
import { mountWithModes, openAs, register } from '../lib/open-modes.ts';

const PARALLEL = OpenFlag.DIRECT_IO | OpenFlag.PARALLEL_DIRECT_WRITES;

/** A mount on which nothing is in passthrough mode, of either interface: both have parallel direct writes. */
function mountPlain(guest: TestGuest): Promise<FuseMount> {
  return guest.mountFuse({ passthrough: 'off' });
}

async function openParallel(fuse: FuseMount, client: Client, more = 0, backingId = 0): Promise<number> {
  await fuse.answerOpen('OPEN', { openFlags: PARALLEL | more, backingId }, 1);
  return client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
}

guestTest('parallel direct writes are at the server at the same time (K10, K37)', async (t, guest) => {
  await using fuse = await mountPlain(guest);
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: '12345678' });
  const fds = [await openParallel(fuse, client), await openParallel(fuse, client)];
  const hold = await fuse.hold('WRITE');
  // One ends where the file does, which it makes no longer.
  const writing = fds.map((fd, at) => client.pwrite({ fd, data: 'abc', offset: 5 * at }));
  const held = [await hold.arrived(), await hold.arrived()];
  t.is(held.length, 2, 'the second did not wait for the first');
  for (const request of held) await hold.release(request);
  t.deepEqual(await Promise.all(writing), [3, 3]);
  await hold.stop();
  t.is(text(await client.readFile({ path: fuse.backing('f') })), 'abc45abc');
  for (const fd of fds) await client.close({ fd });
});

guestTest(
  'direct writes take turns while the file is open for the cache, and are parallel again afterwards',
  async (t, guest) => {
    await using fuse = await mountWithModes(guest);
    await using client = await guest.client();
    const writers = [await guest.client(), await guest.client()] as const;
    await client.writeFile({ path: fuse.backing('f'), data: '12345678' });
    const cached = await openAs(client, fuse, { name: 'f', mode: 'cached' });
    const fds = [await openParallel(fuse, writers[0]), await openParallel(fuse, writers[1])] as const;
    const write = async (at: 0 | 1): Promise<number> => {
      const writing = writers[at].pwrite({ fd: fds[at], data: 'abc', offset: 5 * at });
      writing.catch(() => undefined);
      return writing;
    };
    const after = await fuse.position();
    const hold = await fuse.hold('WRITE');
    const turns = write(0);
    const first = await hold.arrived();
    const waits = write(1);
    await untilWriting(guest, writers[1]);
    t.is(await underWay(fuse, client, after), 1, 'the second waits for the first');
    await hold.release(first);
    await hold.release(await hold.arrived());
    t.deepEqual(await Promise.all([turns, waits]), [3, 3]);

    await client.close({ fd: cached });
    await fuse.waitFor({ opcode: 'RELEASE', after }, 'arrived');
    const writing = [write(0), write(1)];
    const held = [await hold.arrived(), await hold.arrived()];
    t.is(held.length, 2, 'the second does not wait for the first any more');
    for (const request of held) await hold.release(request);
    t.deepEqual(await Promise.all(writing), [3, 3]);
    await hold.stop();
    for (const at of [0, 1] as const) await writers[at].close({ fd: fds[at] });
    for (const writer of writers) await writer[Symbol.asyncDispose]();
  },
);

guestTest('a cached open waits for a parallel direct write to end (D8)', async (t, guest) => {
  await using fuse = await mountWithModes(guest);
  await using client = await guest.client();
  await using other = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
  const direct = await openParallel(fuse, client);
  const hold = await fuse.hold('WRITE');
  const writing = client.pwrite({ fd: direct, data: 'CON', offset: 0 });
  writing.catch(() => undefined);
  const request = await hold.arrived();

  let opened = false;
  const opening = openAs(other, fuse, { name: 'f', mode: 'cached' }).then((fd) => {
    opened = true;
    return fd;
  });
  opening.catch(() => undefined);
  const stack = await eventually(
    () => guest.where(other.pid),
    (where) => where.includes('fuse_file_cached_io_'),
  );
  t.regex(stack, /fuse_file_cached_io_/, 'the cached open waits for the writer');
  t.false(opened, 'before the server has answered the write');
  await hold.release(request);
  await hold.stop();
  await writing;
  const cached = await opening;
  t.is(text(await other.pread({ fd: cached, count: 8, offset: 0 })), 'CONtents');
  await other.close({ fd: cached });
  await client.close({ fd: direct });
});

guestTest(
  'parallel direct writes of a passthrough file leave its mode and its registration as they were (D9, K09)',
  async (t, guest) => {
    await using fuse = await mountWithModes(guest);
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
    const id = await register(fuse, 'f');
    for (let round = 0; round < 3; round++) {
      const fds = [
        await openParallel(fuse, client, OpenFlag.PASSTHROUGH, id),
        await openParallel(fuse, client, OpenFlag.PASSTHROUGH, id),
      ];
      const hold = await fuse.hold('WRITE');
      const writing = fds.map((fd, at) => client.pwrite({ fd, data: 'ab', offset: 4 * at }));
      const held = [await hold.arrived(), await hold.arrived()];
      for (const request of held) await hold.release(request);
      t.deepEqual(await Promise.all(writing), [2, 2]);
      await hold.stop();
      const beside = await openAs(client, fuse, { name: 'f', mode: 'cached' }).catch(String);
      t.regex(String(beside), /EIO/, 'still in passthrough mode');
      for (const fd of fds) await client.close({ fd });
    }
    const cached = await openAs(client, fuse, { name: 'f', mode: 'cached' });
    await client.close({ fd: cached });
    t.is(await fuse.server.closeBacking(id), 'ok');
    t.false(await guest.isBackingBusy(), 'no reference to the backing file is left');
  },
);

/** How many WRITEs are at the server when a request comes that was made after them. */
async function underWay(fuse: FuseMount, client: Client, after: number): Promise<number> {
  await client.stat({ path: fuse.path });
  return (await fuse.requests({ opcode: 'WRITE', after })).length;
}

/** Waits until a process is on its way through a write to a file of FUSE. */
function untilWriting(guest: TestGuest, client: Client): Promise<string> {
  return eventually(
    () => guest.where(client.pid),
    (where) => where.includes('fuse_file_write_iter') || where.includes('fuse_direct_write_iter'),
  );
}

guestTest('parallel direct writes that append take turns, and each is behind the other', async (t, guest) => {
  await using fuse = await mountPlain(guest);
  await using client = await guest.client();
  const writers = [await guest.client(), await guest.client()];
  await client.writeFile({ path: fuse.backing('f'), data: '12345678' });
  await fuse.answerOpen('OPEN', { openFlags: PARALLEL });
  const fds: number[] = [];
  for (const writer of writers) {
    fds.push(await writer.open({ path: fuse.file('f'), flags: 'O_WRONLY|O_APPEND' }));
  }
  const after = await fuse.position();
  const hold = await fuse.hold('WRITE');
  const write = async (at: number, data: string): Promise<number> => {
    const written = writers[at]?.write({ fd: fds[at] ?? -1, data }) ?? Promise.resolve(-1);
    written.catch(() => undefined);
    return written;
  };
  const first = write(0, 'abc');
  const request = await hold.arrived();
  const second = write(1, 'def');
  if (writers[1] !== undefined) await untilWriting(guest, writers[1]);
  t.is(await underWay(fuse, client, after), 1, 'the second waits for the first');
  await hold.stop();
  await hold.release(request);
  t.deepEqual(await Promise.all([first, second]), [3, 3]);
  t.is(text(await client.readFile({ path: fuse.backing('f') })), '12345678abcdef');
  for (const writer of writers) await writer[Symbol.asyncDispose]();
});

/** What happens to a file while parallel writes wait for its lock, after which they may no longer be parallel. */
const MEANWHILE: Readonly<Record<string, { left: number; open: boolean; contents: string }>> = {
  'the file was made shorter than they reach': { left: 2, open: false, contents: '12abc\0def' },
  'the file was opened for the cache': { left: 9, open: true, contents: '12abc6def' },
};

for (const [what, { left, open, contents }] of Object.entries(MEANWHILE)) {
  guestTest(
    `direct writes that would have been parallel take turns when ${what} meanwhile`,
    async (t, guest) => {
      await using fuse = await (open ? mountWithModes(guest) : mountPlain(guest));
      await using client = await guest.client();
      await using cutter = await guest.client();
      await using one = await guest.client();
      await using two = await guest.client();
      await client.writeFile({ path: fuse.backing('f'), data: '1234567890' });
      const fds = [await openParallel(fuse, one), await openParallel(fuse, two)] as const;
      const locked = await fuse.hold('SETATTR');
      const cutting = cutter.truncate({ path: fuse.file('f'), length: left });
      cutting.catch(() => undefined);
      const request = await locked.arrived();
      const after = await fuse.position();
      const hold = await fuse.hold('WRITE');
      const writing = [
        one.pwrite({ fd: fds[0], data: 'abc', offset: 2 }),
        two.pwrite({ fd: fds[1], data: 'def', offset: 6 }),
      ];
      for (const each of writing) each.catch(() => undefined);
      for (const writer of [one, two]) {
        t.regex(await untilWriting(guest, writer), /fuse_(file|direct)_write_iter/, 'they wait for the lock');
      }
      const cached = open ? await openAs(client, fuse, { name: 'f', mode: 'cached' }) : undefined;
      await locked.stop();
      await locked.release(request);
      await cutting;
      const first = await hold.arrived();
      t.is(await underWay(fuse, client, after), 1, 'one at a time');
      await hold.stop();
      await hold.release(first);
      t.deepEqual(await Promise.all(writing), [3, 3]);
      t.is(text(await client.readFile({ path: fuse.backing('f') })), contents);
      if (cached !== undefined) {
        t.is(text(await client.pread({ fd: cached, count: 10, offset: 0 })), contents);
        await client.close({ fd: cached });
      }
      await one.close({ fd: fds[0] });
      await two.close({ fd: fds[1] });
    },
  );
}

/** Direct writes of a file of ten bytes that may make it longer, by what they are. */
const LENGTHENING: Readonly<
  Record<string, { readonly write: (client: Client, fd: number) => Promise<number>; readonly result: string }>
> = {
  'begins before the end and reaches behind it': {
    write: (client, fd) => client.pwrite({ fd, data: 'abc', offset: 8 }),
    result: 'de345678abc',
  },
  'begins at the end': {
    write: (client, fd) => client.pwrite({ fd, data: 'abc', offset: 10 }),
    result: 'de34567890abc',
  },
  'appends by RWF_APPEND': {
    write: (client, fd) =>
      client.pwritev2({ fd, chunks: [Buffer.from('abc')], offset: 0, flags: 'RWF_APPEND' }),
    result: 'de34567890abc',
  },
};

guestTest('a direct write that makes the file longer is alone, however it does that', async (t, guest) => {
  await using client = await guest.client();
  await using other = await guest.client();
  for (const [what, { write, result }] of Object.entries(LENGTHENING)) {
    await using fuse = await mountPlain(guest);
    await client.writeFile({ path: fuse.backing('f'), data: '1234567890' });
    const fds = [await openParallel(fuse, client), await openParallel(fuse, other)] as const;
    const after = await fuse.position();
    const hold = await fuse.hold('WRITE');
    const lengthening = write(client, fds[0]);
    lengthening.catch(() => undefined);
    const first = await hold.arrived();
    // One that by itself could be parallel.
    const writing = other.pwrite({ fd: fds[1], data: 'de', offset: 0 });
    writing.catch(() => undefined);
    await untilWriting(guest, other);
    t.is(await underWay(fuse, client, after), 1, `one that ${what}: the next one waits`);
    await hold.stop();
    await hold.release(first);
    t.deepEqual(await Promise.all([lengthening, writing]), [3, 2], what);
    t.is(text(await client.readFile({ path: fuse.backing('f') })), result, what);
    t.is((await client.fstat({ fd: fds[0], flags: 'AT_STATX_DONT_SYNC' })).size, result.length, what);
    await client.close({ fd: fds[0] });
    await other.close({ fd: fds[1] });
  }
});

guestTest(
  'direct writes within a file take turns unless the server says that it can do otherwise',
  async (t, guest) => {
    await using client = await guest.client();
    await using other = await guest.client();
    await using fuse = await mountPlain(guest);
    await client.writeFile({ path: fuse.backing('f'), data: '1234567890' });
    for (const parallel of [false, true]) {
      const fds: number[] = [];
      for (const each of [client, other]) {
        await fuse.answerOpen('OPEN', { openFlags: parallel ? PARALLEL : OpenFlag.DIRECT_IO }, 1);
        fds.push(await each.open({ path: fuse.file('f'), flags: 'O_RDWR' }));
      }
      const [one = -1, two = -1] = fds;
      const after = await fuse.position();
      const hold = await fuse.hold('WRITE');
      const first = client.pwrite({ fd: one, data: 'ab', offset: 0 });
      first.catch(() => undefined);
      const held = [await hold.arrived()];
      const second = other.pwrite({ fd: two, data: 'cd', offset: 4 });
      second.catch(() => undefined);
      if (parallel) held.push(await hold.arrived());
      else await untilWriting(guest, other);
      t.is(await underWay(fuse, client, after), parallel ? 2 : 1, `under way, parallel: ${parallel}`);
      await hold.stop();
      for (const request of held) await hold.release(request);
      t.deepEqual(await Promise.all([first, second]), [2, 2]);
      await client.close({ fd: one });
      await other.close({ fd: two });
    }
    t.is(text(await client.readFile({ path: fuse.backing('f') })), 'ab34cd7890');
  },
);
