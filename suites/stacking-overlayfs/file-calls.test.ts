import { bytesLeft } from '../lib/bytes-left.ts';
import { bytes, text } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import { eventually } from '../lib/eventually.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';
import { upperOn } from '../lib/stack.ts';

/** Calls on open files of an overlay: what the overlay itself knows has to agree with the file below it. */

const PAGE = 4096;

async function overlayWith(guest: TestGuest, client: Client, data: string) {
  await using undo = new AsyncDisposableStack();
  const layers = await upperOn(guest);
  await client.writeFile({ path: `${layers.upper}/f`, data });
  const lower = await guest.directory('ext4', 'lower');
  const overlay = undo.use(await guest.mountOverlay({ lower, ...layers }, client));
  const all = undo.move();
  return { overlay, upper: `${layers.upper}/f`, [Symbol.asyncDispose]: () => all.disposeAsync() };
}

guestTest('seeking to data, holes and the end on an overlay moves its own position', async (t, guest) => {
  await using client = await guest.client();
  await using stack = await overlayWith(guest, client, '');
  const fd = await client.open({ path: stack.overlay.file('f'), flags: 'O_RDWR' });
  await client.pwrite({ fd, data: 'data', offset: 16 * PAGE });
  await client.ftruncate({ fd, length: 20 * PAGE });

  await client.lseek({ fd, offset: 5, whence: 'SEEK_SET' });
  t.is(await client.lseek({ fd, offset: 3, whence: 'SEEK_CUR' }), 8, 'from where it is');
  await client.read({ fd, count: 100 });
  t.is(await client.lseek({ fd, offset: -8, whence: 'SEEK_CUR' }), 100, 'from where reading has brought it');
  const seeks = [
    { offset: 0, whence: 'SEEK_DATA', at: 16 * PAGE },
    { offset: 16 * PAGE, whence: 'SEEK_HOLE', at: 17 * PAGE },
    { offset: -4, whence: 'SEEK_END', at: 20 * PAGE - 4 },
    { offset: 0, whence: 'SEEK_SET', at: 0 },
  ] as const;
  for (const { at, ...seek } of seeks) {
    t.is(await client.lseek({ fd, ...seek }), at, `${seek.whence} gives the place`);
    t.is(await client.lseek({ fd, offset: 0, whence: 'SEEK_CUR' }), at, `${seek.whence} moves the position`);
  }
  await client.close({ fd });
});

guestTest('the size on an overlay is right at once after writing and allocating', async (t, guest) => {
  await using client = await guest.client();
  await using stack = await overlayWith(guest, client, 'abc');
  const fd = await client.open({ path: stack.overlay.file('f'), flags: 'O_RDWR' });
  const sizes = async () => ({
    overlay: (await client.fstat({ fd })).size,
    upper: (await client.stat({ path: stack.upper })).size,
    end: await client.lseek({ fd, offset: 0, whence: 'SEEK_END' }),
  });

  await client.pwrite({ fd, data: 'more', offset: 3 });
  t.is(await bytesLeft(client, fd), 7, 'what the overlay knows after a write');
  t.deepEqual(await sizes(), { overlay: 7, upper: 7, end: 7 }, 'after a write');
  await client.lseek({ fd, offset: 0, whence: 'SEEK_SET' });
  await client.fallocate({ fd, offset: 0, length: 100 });
  t.is(await bytesLeft(client, fd), 100, 'what the overlay knows after fallocate');
  t.deepEqual(await sizes(), { overlay: 100, upper: 100, end: 100 }, 'after fallocate');
  const map = await client.mmap({ fd, length: PAGE, prot: 'PROT_READ', flags: 'MAP_SHARED' });
  t.is(text(await client.mread({ map, offset: 0, length: 7 })), 'abcmore');
  await client.munmap({ map });
  // Appending begins at the size that the overlay knows.
  await client.close({ fd });
  const append = await client.open({ path: stack.overlay.file('f'), flags: 'O_WRONLY|O_APPEND' });
  await client.write({ fd: append, data: 'end' });
  await client.close({ fd: append });
  t.is((await client.stat({ path: stack.upper })).size, 103, 'after appending');
});

guestTest('F_SETFL on a file of an overlay counts from the next write on', async (t, guest) => {
  await using client = await guest.client();
  await using stack = await overlayWith(guest, client, '0123456789');
  const fd = await client.open({ path: stack.overlay.file('f'), flags: 'O_RDWR' });
  await client.fcntl({ fd, cmd: 'F_SETFL', arg: 'O_APPEND' });
  await client.write({ fd, data: 'end' });
  t.is(text(await client.readFile({ path: stack.upper })), '0123456789end', 'O_APPEND set');
  await client.fcntl({ fd, cmd: 'F_SETFL', arg: 0 });
  await client.pwrite({ fd, data: 'X', offset: 0 });
  t.is(text(await client.readFile({ path: stack.upper })), 'X123456789end', 'O_APPEND cleared');
  await client.close({ fd });
});

guestTest(
  'flags of an open on an overlay that F_SETFL takes back or adds reach the upper file',
  async (t, guest) => {
    await using client = await guest.client();
    await using stack = await overlayWith(guest, client, '0123456789');
    const path = stack.overlay.file('f');
    const append = await client.open({ path, flags: 'O_RDWR|O_APPEND' });
    await client.fcntl({ fd: append, cmd: 'F_SETFL', arg: 0 });
    await client.pwrite({ fd: append, data: 'X', offset: 0 });
    t.is(text(await client.readFile({ path: stack.upper })), 'X123456789', 'O_APPEND taken back');
    await client.close({ fd: append });

    const fd = await client.open({ path, flags: 'O_RDWR' });
    const odd = { fd, count: 100, offset: 0, misalign: 1 };
    t.is(await client.errno.pread(odd), 'ok', 'reading to any address');
    await client.fcntl({ fd, cmd: 'F_SETFL', arg: 'O_DIRECT' });
    t.is(await client.errno.pread(odd), 'EINVAL', 'O_DIRECT added: addresses count');
    await client.fcntl({ fd, cmd: 'F_SETFL', arg: 0 });
    t.is(await client.errno.pread(odd), 'ok', 'O_DIRECT taken back');
    await client.close({ fd });
  },
);

guestTest(
  'a flag that F_SETFL adds to the open of an append-only file of an overlay leaves it to be appended to',
  async (t, guest) => {
    await using client = await guest.client();
    await using stack = await overlayWith(guest, client, '0123456789');
    await guest.run(['chattr', '+a', stack.upper]);
    try {
      const fd = await client.open({ path: stack.overlay.file('f'), flags: 'O_RDWR|O_APPEND' });
      await client.write({ fd, data: 'one' });
      await client.fcntl({ fd, cmd: 'F_SETFL', arg: 'O_APPEND|O_NONBLOCK' });
      t.is(await client.errno.write({ fd, data: 'two' }), 'ok', 'appending');
      t.is(await client.errno.fcntl({ fd, cmd: 'F_SETFL', arg: 'O_NONBLOCK' }), 'EPERM', 'without O_APPEND');
      t.is(await client.errno.write({ fd, data: 'three' }), 'ok', 'appending again');
      await client.close({ fd });
    } finally {
      await guest.run(['chattr', '-a', stack.upper]);
    }
    t.is(text(await client.readFile({ path: stack.upper })), '0123456789onetwothree');
  },
);

guestTest(
  'reading on an overlay changes the access time of the upper file, O_NOATIME does not',
  async (t, guest) => {
    await using client = await guest.client();
    await using stack = await overlayWith(guest, client, 'abc');
    const old = 1_000_000_000;
    const read = async (flags: string) => {
      await client.utimens({ path: stack.upper, atimeNs: old, mtimeNs: null });
      const fd = await client.open({ path: stack.overlay.file('f'), flags });
      await client.pread({ fd, count: 3, offset: 0 });
      await client.close({ fd });
      return (await client.stat({ path: stack.upper })).atimeNs;
    };
    t.is(await read('O_RDONLY|O_NOATIME'), old, 'with O_NOATIME');
    t.not(await read('O_RDONLY'), old, 'without');
  },
);

guestTest(
  'reading on an overlay changes the access time once, and once more after a store into a mapping',
  async (t, guest) => {
    await using client = await guest.client();
    await using stack = await overlayWith(guest, client, 'abc');
    const fd = await client.open({ path: stack.overlay.file('f'), flags: 'O_RDWR' });
    const read = async (): Promise<number> => {
      await client.pread({ fd, count: 3, offset: 0 });
      return (await client.stat({ path: stack.upper })).atimeNs;
    };
    // The clock of files ticks slowly: a time is newer than the last change only after its next tick.
    const [one, other] = await eventually(
      async () => [await read(), await read()] as const,
      (both) => both[0] === both[1],
    );
    t.is(one, other, 'newer than the last change: it stays');
    const map = await client.mmap({ fd, length: PAGE, prot: 'PROT_READ|PROT_WRITE', flags: 'MAP_SHARED' });
    await client.mwrite({ map, offset: 0, data: 'A' });
    await client.munmap({ map });
    const later = await eventually(read, (atimeNs) => atimeNs !== one);
    t.not(later, one, 'the store was a change');
    await client.close({ fd });
  },
);

guestTest(
  'reading on an overlay changes the access time once more after a new mode, and after a new link',
  async (t, guest) => {
    await using client = await guest.client();
    await using stack = await overlayWith(guest, client, 'abc');
    const path = stack.overlay.file('f');
    const fd = await client.open({ path, flags: 'O_RDONLY' });
    const read = async (): Promise<number> => {
      await client.pread({ fd, count: 3, offset: 0 });
      return (await client.stat({ path: stack.upper })).atimeNs;
    };
    for (const [what, change] of [
      ['a new mode', () => client.chmod({ path, mode: 0o600 })],
      ['a new link', () => client.link({ from: path, to: stack.overlay.file('other') })],
    ] as const) {
      const [before, again] = await eventually(
        async () => [await read(), await read()] as const,
        (both) => both[0] === both[1],
      );
      t.is(before, again, `before ${what}: newer than the last change, it stays`);
      await change();
      const after = await eventually(read, (atimeNs) => atimeNs !== before);
      t.not(after, before, `${what} was a change, of no data`);
    }
    await client.close({ fd });
  },
);

guestTest('times that are set on an overlay are as fine as those of the upper file', async (t, guest) => {
  await using client = await guest.client();
  await using stack = await overlayWith(guest, client, 'abc');
  const times = { atimeNs: 1e15 + 123_000, mtimeNs: 2e15 + 456_000 };
  await client.utimens({ path: stack.overlay.file('f'), ...times });
  const { atimeNs, mtimeNs } = await client.stat({ path: stack.upper });
  t.deepEqual({ atimeNs, mtimeNs }, times);
});

guestTest('copy_file_range on an overlay copies from its offset to its offset', async (t, guest) => {
  await using client = await guest.client();
  await using stack = await overlayWith(guest, client, '0123456789');
  const fdIn = await client.open({ path: stack.overlay.file('f'), flags: 'O_RDONLY' });
  const fdOut = await client.open({ path: stack.overlay.file('to'), flags: 'O_RDWR|O_CREAT' });
  await client.pwrite({ fd: fdOut, data: bytes('abcdef'), offset: 0 });
  t.is(await client.copy_file_range({ fdIn, offIn: 6, fdOut, offOut: 1, length: 3 }), 3);
  t.is(text(await client.pread({ fd: fdOut, count: 10, offset: 0 })), 'a678ef');
  await client.close({ fd: fdIn });
  await client.close({ fd: fdOut });
});

guestTest(
  'allocating and punching on an overlay leave the size where that is asked for',
  async (t, guest) => {
    await using client = await guest.client();
    await using stack = await overlayWith(guest, client, 'abcdef');
    const fd = await client.open({ path: stack.overlay.file('f'), flags: 'O_RDWR' });
    await client.fallocate({ fd, mode: 'FALLOC_FL_KEEP_SIZE', offset: 0, length: 10 * PAGE });
    t.is((await client.stat({ path: stack.upper })).size, 6);
    const hole = { fd, mode: 'FALLOC_FL_PUNCH_HOLE|FALLOC_FL_KEEP_SIZE', offset: 2, length: 2 };
    t.is(await client.errno.fallocate(hole), 'ok');
    t.is(text(await client.readFile({ path: stack.upper })), 'ab\0\0ef');
    await client.close({ fd });
  },
);

guestTest('allocating takes the setuid bit away on an overlay', async (t, guest) => {
  await using client = await guest.client();
  await using stack = await overlayWith(guest, client, 'abc');
  await client.chown({ path: stack.upper, uid: 1500, gid: 1500 });
  await using owner = await guest.client();
  await owner.setCredentials({ uid: 1500, gid: 1500 });
  const fd = await owner.open({ path: stack.overlay.file('f'), flags: 'O_RDWR' });
  // The overlay has seen the file without the bit: it has to look again.
  await client.chmod({ path: stack.upper, mode: 0o4755 });
  await owner.fallocate({ fd, offset: 0, length: 100 });
  t.is(((await client.stat({ path: stack.upper })).mode & 0o7777).toString(8), '755');
  await owner.close({ fd });
});

guestTest(
  'splice on an overlay tells size and access time like any other write and read',
  async (t, guest) => {
    await using client = await guest.client();
    await using stack = await overlayWith(guest, client, 'abc');
    const fd = await client.open({ path: stack.overlay.file('f'), flags: 'O_RDWR' });
    const [end, into] = await client.pipe({});
    await client.write({ fd: into, data: 'more' });
    t.is(await client.splice({ fdIn: end, fdOut: fd, offOut: 3, length: 4 }), 4);
    t.is((await client.fstat({ fd })).size, 7, 'the size after a splice to the file');
    t.is(await bytesLeft(client, fd), 7, 'FIONREAD');
    t.is(await client.lseek({ fd, offset: 0, whence: 'SEEK_END' }), 7, 'SEEK_END');
    t.is(text(await client.readFile({ path: stack.upper })), 'abcmore', 'the upper file');

    const old = 1_000_000_000;
    for (const [what, read] of Object.entries({
      splice: () => client.splice({ fdIn: fd, offIn: 0, fdOut: into, length: 3 }),
      mmap: async () => {
        const map = await client.mmap({ fd, length: PAGE, prot: 'PROT_READ', flags: 'MAP_SHARED' });
        await client.munmap({ map });
      },
    })) {
      await client.utimens({ path: stack.overlay.file('f'), atimeNs: old, mtimeNs: null });
      await read();
      t.not((await client.stat({ path: stack.upper })).atimeNs, old, `${what} changes the access time`);
    }
    for (const each of [end, into, fd]) await client.close({ fd: each });
  },
);

guestTest(
  'a file without a name on an overlay is in the upper layer, and may get one (A4)',
  async (t, guest) => {
    guest.needs(guest.expected.hasIoModes, 'files without a name on overlays: they came with 6.3');
    await using client = await guest.client();
    await using stack = await overlayWith(guest, client, 'abc');
    for (let round = 0; round < 8; round++) {
      const fd = await client.open({ path: stack.overlay.path, flags: 'O_TMPFILE|O_RDWR', mode: 0o640 });
      await client.write({ fd, data: 'nameless' });
      t.is(text(await client.pread({ fd, count: 20, offset: 0 })), 'nameless');
      const map = await client.mmap({ fd, length: PAGE, prot: 'PROT_READ', flags: 'MAP_SHARED' });
      t.is(text(await client.mread({ map, offset: 0, length: 8 })), 'nameless', 'mapped');
      const maps = text(await client.readFile({ path: `/proc/${client.pid}/maps` }));
      t.true(maps.includes(`${stack.overlay.path}/#`), 'the mapping is one of a file of the overlay');
      await client.munmap({ map });
      t.deepEqual(await client.readdir({ path: stack.overlay.path }), ['f'], 'no name yet');
      if (round === 7) {
        await client.linkFd({ fd, to: stack.overlay.file('named') });
        t.is(text(await client.readFile({ path: stack.overlay.file('named') })), 'nameless');
        t.is((await client.stat({ path: stack.overlay.file('named') })).mode & 0o777, 0o640);
      }
      await client.close({ fd });
    }
  },
);

guestTest(
  'copying to a file of an overlay makes it as long and takes the setuid bit away',
  async (t, guest) => {
    await using client = await guest.client();
    await using stack = await overlayWith(guest, client, 'abc');
    await client.chown({ path: stack.upper, uid: 1500, gid: 1500 });
    await using owner = await guest.client();
    await owner.setCredentials({ uid: 1500, gid: 1500 });
    const fd = await owner.open({ path: stack.overlay.file('f'), flags: 'O_RDWR' });
    // The overlay has seen the file without the bit: it has to look again.
    await client.chmod({ path: stack.upper, mode: 0o4755 });
    t.is(await owner.copy_file_range({ fdIn: fd, offIn: 0, fdOut: fd, offOut: 10, length: 3 }), 3);
    t.is(await bytesLeft(owner, fd), 13, 'the size that the overlay knows');
    t.is(((await client.stat({ path: stack.upper })).mode & 0o7777).toString(8), '755');
    await owner.close({ fd });
  },
);

guestTest('advice about a file of an overlay reaches the upper file (A33)', async (t, guest) => {
  await using client = await guest.client();
  await using stack = await overlayWith(guest, client, 'x'.repeat(16 * PAGE));
  const fd = await client.open({ path: stack.overlay.file('f'), flags: 'O_RDONLY' });
  const upper = await client.open({ path: stack.upper, flags: 'O_RDONLY' });
  const map = await client.mmap({ fd: upper, length: 16 * PAGE, prot: 'PROT_READ', flags: 'MAP_SHARED' });
  const cached = async (): Promise<number> =>
    (await client.mincore({ map })).filter((page) => (page & 1) === 1).length;
  await client.fsync({ fd: upper });
  t.is(await cached(), 16, 'in the page cache of the upper filesystem');
  await client.posix_fadvise({ fd, offset: 0, length: 0, advice: 'POSIX_FADV_DONTNEED' });
  t.is(await cached(), 0);
  const negative = { fd, offset: 0, length: -1, advice: 'POSIX_FADV_DONTNEED' } as const;
  t.is(await client.errno.posix_fadvise(negative), 'EINVAL', 'and so do its errors come back');
  await client.munmap({ map });
  for (const each of [fd, upper]) await client.close({ fd: each });
});
