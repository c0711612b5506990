import { bytes, pattern, text } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import { eventually } from '../lib/eventually.ts';
import { guestTest } from '../lib/guest-test.ts';
import { openErrno } from '../lib/open-errno.ts';

/** Ways to write six bytes to the beginning of a file. */
const WRITES: Readonly<Record<string, (client: Client, fd: number) => Promise<unknown>>> = {
  write: (client, fd) => client.pwrite({ fd, data: 'frozen', offset: 0 }),
  'asynchronous write': async (client, fd) => {
    const operation = { op: 'pwrite', fd, data: bytes('frozen'), offset: 0 } as const;
    return (await client.aio({ operations: [operation] }))[0]?.result;
  },
  'splice to the file': async (client, fd) => {
    const [fdIn, end] = await client.pipe({});
    await client.write({ fd: end, data: 'frozen' });
    return client.splice({ fdIn, fdOut: fd, offOut: 0, length: 6 });
  },
};

guestTest(
  'on a frozen filesystem writers wait, readers do not, and thawing lets them go on (H8)',
  async (t, guest) => {
    await using disk = await guest.spareDisk('xfs');
    await using fuse = await guest.mountFuse({ root: await disk.directory() });
    await fuse.fail('GETXATTR', 'ENOSYS');
    await using client = await guest.client();
    for (const [what, write] of Object.entries(WRITES)) {
      await client.writeFile({ path: fuse.backing(what), data: 'before' });
      const fd = await client.open({ path: fuse.file(what), flags: 'O_RDWR' });
      await client.pwrite({ fd, data: 'BEFORE', offset: 0 });
      await guest.run(['fsfreeze', '-f', disk.path]);
      const events: string[] = [];
      const writing = write(client, fd).then((count) => {
        events.push('written');
        return count;
      });
      writing.catch(() => undefined);
      try {
        const stack = await eventually(
          () => guest.where(client.pid),
          (where) => where.includes('percpu_rwsem_wait') || where.includes('sb_start_write'),
        );
        t.regex(stack, /percpu_rwsem_wait|sb_start_write/, `${what}: the writer waits for the filesystem`);
        // One that had come to the filesystem itself would have the file locked.
        t.is(text(await client.pread({ fd, count: 6, offset: 0 })), 'BEFORE', `${what}: a reader does not`);
        events.push('read');
      } finally {
        await guest.run(['fsfreeze', '-u', disk.path]);
      }
      t.is(await writing, 6, what);
      t.deepEqual(events, ['read', 'written'], what);
      t.is(text(await client.readFile({ path: fuse.backing(what) })), 'frozen', what);
      await client.close({ fd });
    }
    t.deepEqual(await fuse.dataRequests(), []);
  },
);

guestTest(
  'a filesystem is not made read-only while a passthrough file of it is open for writing (H9)',
  async (t, guest) => {
    await using disk = await guest.spareDisk('xfs');
    await using fuse = await guest.mountFuse({ root: await disk.directory() });
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
    const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
    t.is(await disk.remount('MS_RDONLY'), 'EBUSY', 'open for writing');
    await client.close({ fd });
    await fuse.waitFor('RELEASE');
    const answer = await eventually(
      () => disk.remount('MS_RDONLY'),
      (errno) => errno === 'ok',
    );
    t.is(answer, 'ok', 'after the last close');

    t.is(text(await client.readFile({ path: fuse.file('f') })), 'contents', 'reading goes on');
    t.not(await openErrno(client, fuse.file('f'), 'O_RDWR'), 'ok', 'nobody opens it for writing');
    t.is(await disk.remount('MS_NOATIME'), 'ok');
    t.is(await openErrno(client, fuse.file('f'), 'O_RDWR'), 'ok', 'writable again');
  },
);

const PAGE = 4096;

/** Everything that may begin or end a write of the backing filesystem; asynchronous direct I/O is really queued. */
const WORK: Readonly<Record<string, (client: Client, fd: number) => Promise<unknown>>> = {
  read: (client, fd) => client.pread({ fd, count: PAGE, offset: 0 }),
  'asynchronous read': (client, fd) =>
    client.aio({ operations: [{ op: 'pread', fd, count: PAGE, offset: PAGE }] }),
  'splice from the file': async (client, fd) => {
    const [end, fdOut] = await client.pipe({});
    await client.splice({ fdIn: fd, offIn: 0, fdOut, length: PAGE });
    for (const each of [end, fdOut]) await client.close({ fd: each });
  },
  write: (client, fd) => client.pwrite({ fd, data: pattern(PAGE, 2), offset: 0 }),
  'asynchronous write': (client, fd) =>
    client.aio({ operations: [{ op: 'pwrite', fd, data: pattern(PAGE, 3), offset: PAGE }] }),
  'asynchronous write beyond the end': (client, fd) =>
    client.aio({ operations: [{ op: 'pwrite', fd, data: pattern(PAGE, 3), offset: 9 * PAGE }] }),
  'splice to the file': async (client, fd) => {
    const [fdIn, end] = await client.pipe({});
    await client.write({ fd: end, data: bytes('x') });
    // On a descriptor with O_DIRECT one byte is refused: that begins and ends a write as well.
    await client.errno.splice({ fdIn, fdOut: fd, offOut: 0, length: 1 });
    for (const each of [fdIn, end]) await client.close({ fd: each });
  },
};

for (const flags of ['O_RDWR', 'O_RDWR|O_DIRECT']) {
  guestTest(
    `the filesystem can be frozen after every kind of passthrough I/O on ${flags} (H8)`,
    async (t, guest) => {
      await using disk = await guest.spareDisk('ext4');
      await using fuse = await guest.mountFuse({ root: await disk.directory() });
      await using client = await guest.client();
      await client.writeFile({ path: fuse.backing('f'), data: pattern(4 * PAGE) });
      const fd = await client.open({ path: fuse.file('f'), flags });
      for (const [what, work] of Object.entries(WORK)) {
        await work(client, fd);
        // Freezing waits until as many writes have ended as began: one too few or too many, and it waits for ever.
        const { code, stderr } = await guest.tryRun(['fsfreeze', '-f', disk.path]);
        t.is(code, 0, `after ${what}: ${stderr}`);
        await guest.run(['fsfreeze', '-u', disk.path]);
      }
      await client.close({ fd });
      t.deepEqual(await fuse.dataRequests(), []);
    },
  );
}
