import { text } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import { eventually } from '../lib/eventually.ts';
import { OpenFlag } from '../lib/fuse-abi.ts';
import type { FuseMount } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';
import { mountWithModes, openAs, register } from '../lib/open-modes.ts';

const PARALLEL = OpenFlag.DIRECT_IO | OpenFlag.PARALLEL_DIRECT_WRITES;

async function openParallel(fuse: FuseMount, client: Client, more = 0, backingId = 0): Promise<number> {
  await fuse.answerOpen('OPEN', { openFlags: PARALLEL | more, backingId }, 1);
  return client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
}

guestTest('parallel direct writes are at the server at the same time (K10, K37)', async (t, guest) => {
  await using fuse = await mountWithModes(guest);
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
