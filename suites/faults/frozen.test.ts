import { text } from '../lib/bytes.ts';
import { eventually } from '../lib/eventually.ts';
import { guestTest } from '../lib/guest-test.ts';
import { openErrno } from '../lib/open-errno.ts';

guestTest(
  'on a frozen filesystem writers wait, readers do not, and thawing lets them go on (H8)',
  async (t, guest) => {
    await using disk = await guest.spareDisk('xfs');
    await using fuse = await guest.mountFuse({ root: await disk.directory() });
    await fuse.fail('GETXATTR', 'ENOSYS');
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'before' });
    const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
    await client.pwrite({ fd, data: 'BEFORE', offset: 0 });
    await guest.run(['fsfreeze', '-f', disk.path]);
    const events: string[] = [];
    const writing = client.pwrite({ fd, data: 'frozen', offset: 0 }).then((count) => {
      events.push('written');
      return count;
    });
    writing.catch(() => undefined);
    const stack = await eventually(
      () => guest.where(client.pid),
      (where) => where.includes('percpu_rwsem_wait') || where.includes('sb_start_write'),
    );
    t.regex(stack, /percpu_rwsem_wait|sb_start_write/, 'the writer waits for the filesystem');
    t.is(text(await client.pread({ fd, count: 6, offset: 0 })), 'BEFORE', 'a reader does not');
    events.push('read');
    await guest.run(['fsfreeze', '-u', disk.path]);
    t.is(await writing, 6);
    t.deepEqual(events, ['read', 'written']);
    t.is(text(await client.readFile({ path: fuse.backing('f') })), 'frozen');
    await client.close({ fd });
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
