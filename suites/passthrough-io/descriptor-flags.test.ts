import { bytes, firstDifference, pattern, text } from '../lib/bytes.ts';
import { guestTest } from '../lib/guest-test.ts';

const PAGE = 4096;

/** The backing file is opened with the flags of the open; what F_SETFL changes later has to reach it as well. */

guestTest('a write goes to its offset after F_SETFL has cleared O_APPEND (A8)', async (t, guest) => {
  await using fuse = await guest.mountFuse();
  await using client = await guest.client();
  const outcome = async (path: string, behind: string): Promise<string> => {
    await client.writeFile({ path: behind, data: '0123456789' });
    const fd = await client.open({ path, flags: 'O_RDWR|O_APPEND' });
    await client.fcntl({ fd, cmd: 'F_SETFL', arg: 0 });
    await client.pwrite({ fd, data: 'X', offset: 0 });
    await client.close({ fd });
    return text(await client.readFile({ path: behind }));
  };

  const native = fuse.backing('native');
  t.is(await outcome(native, native), 'X123456789', 'native');
  t.is(await outcome(fuse.file('f'), fuse.backing('f')), 'X123456789');
});

guestTest('a write goes to the end after F_SETFL has set O_APPEND (A8)', async (t, guest) => {
  await using fuse = await guest.mountFuse();
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: '0123456789' });
  const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });

  await client.fcntl({ fd, cmd: 'F_SETFL', arg: 'O_APPEND' });
  await client.pwrite({ fd, data: 'X', offset: 0 });
  t.is(text(await client.readFile({ path: fuse.backing('f') })), '0123456789X');
  await client.close({ fd });
  t.deepEqual(await fuse.dataRequests(), []);
});

guestTest('RWF_NOAPPEND writes at its offset on a descriptor with O_APPEND (A6)', async (t, guest) => {
  await using fuse = await guest.mountFuse();
  await using client = await guest.client();
  const outcome = async (path: string, behind: string): Promise<string> => {
    await client.writeFile({ path: behind, data: '0123456789' });
    const fd = await client.open({ path, flags: 'O_RDWR|O_APPEND' });
    const errno = await client.errno.pwritev2({ fd, chunks: [bytes('X')], offset: 0, flags: 'RWF_NOAPPEND' });
    await client.close({ fd });
    return `${errno}: ${text(await client.readFile({ path: behind }))}`;
  };

  const native = fuse.backing('native');
  t.is(await outcome(fuse.file('f'), fuse.backing('f')), await outcome(native, native));
});

guestTest('any alignment will do after F_SETFL has cleared O_DIRECT (A9)', async (t, guest) => {
  await using fuse = await guest.mountFuse();
  await using client = await guest.client();
  const data = pattern(PAGE);
  const outcome = async (path: string, behind: string): Promise<string[]> => {
    await client.writeFile({ path: behind, data });
    const fd = await client.open({ path, flags: 'O_RDWR|O_DIRECT' });
    await client.fcntl({ fd, cmd: 'F_SETFL', arg: 0 });
    const read = await client.errno.pread({ fd, count: 5, offset: 3, misalign: 1 });
    const write = await client.errno.pwrite({ fd, data: 'hello', offset: 3, misalign: 1 });
    await client.close({ fd });
    return [read, write, text((await client.readFile({ path: behind })).subarray(3, 8))];
  };

  const native = fuse.backing('native');
  t.deepEqual(await outcome(native, native), ['ok', 'ok', 'hello'], 'native');
  t.deepEqual(await outcome(fuse.file('f'), fuse.backing('f')), ['ok', 'ok', 'hello']);
});

guestTest('posix_fadvise and readahead send no READ (A33)', async (t, guest) => {
  await using fuse = await guest.mountFuse();
  await using client = await guest.client();
  const data = pattern(16 * PAGE);
  await client.writeFile({ path: fuse.backing('f'), data });
  const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDONLY' });

  await client.posix_fadvise({ fd, offset: 0, length: 0, advice: 'POSIX_FADV_WILLNEED' });
  await client.readahead({ fd, offset: 0, count: 16 * PAGE });
  const back = await client.pread({ fd, offset: 0, count: 16 * PAGE });
  t.is(firstDifference(back, data), undefined);
  // A READ that was sent ahead has arrived when the server has answered this, which comes after it.
  await client.fstat({ fd, flags: 'AT_STATX_FORCE_SYNC' });
  await client.close({ fd });
  t.deepEqual(await fuse.dataRequests(), []);
});
