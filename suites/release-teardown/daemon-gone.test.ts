import { text } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import { OpenFlag } from '../lib/fuse-abi.ts';
import type { FuseMount } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';
import { needsMappings } from '../lib/registration.ts';

/** Opens `f` in passthrough mode and proves it. */
async function openPassthrough(fuse: FuseMount, client: Client): Promise<number> {
  await client.writeFile({ path: fuse.backing('f'), data: 'backing' });
  const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
  await client.pread({ fd, count: 7, offset: 0 });
  if ((await fuse.dataRequests()).length > 0) throw new Error('the file is not in passthrough mode');
  return fd;
}

guestTest(
  'after the server is killed open files are read and written on, all else is ENOTCONN (H2)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse();
    await using client = await guest.client();
    const fd = await openPassthrough(fuse, client);
    await fuse.server.kill();

    t.is(text(await client.pread({ fd, count: 7, offset: 0 })), 'backing');
    t.is(await client.pwrite({ fd, data: 'written', offset: 0 }), 7);
    t.is(text(await client.readFile({ path: fuse.backing('f') })), 'written');
    t.is(await client.errno.fstat({ fd }), 'ENOTCONN', 'fstat');
    t.is(await client.errno.ftruncate({ fd, length: 1 }), 'ENOTCONN', 'ftruncate');
    t.is(await client.errno.fsync({ fd }), 'ENOTCONN', 'fsync');
    t.is(await client.errno.open({ path: fuse.file('f'), flags: 'O_RDONLY' }), 'ENOTCONN', 'open');
    t.is(await guest.umountBacking(), 'EBUSY');

    // FLUSH has nobody to go to; the descriptor is closed all the same.
    t.is(await client.errno.close({ fd }), 'ENOTCONN', 'close');
    t.is(await client.errno.close({ fd }), 'EBADF');
    t.is(await fuse.unmount(), 'ok');
    t.false(await guest.isBackingBusy(), 'the id that nobody closed is gone too');
    t.is(await fuse.waiting(), null);
  },
);

guestTest(
  'a mapping made before the server was killed still works, one made after it too (H2)',
  async (t, guest) => {
    needsMappings(guest);
    await using fuse = await guest.mountFuse();
    await using client = await guest.client();
    const fd = await openPassthrough(fuse, client);
    const shared = { fd, length: 4096, prot: 'PROT_READ|PROT_WRITE', flags: 'MAP_SHARED' };
    const before = await client.mmap(shared);
    await fuse.server.kill();

    const after = await client.mmap(shared);
    await client.mwrite({ map: before, offset: 0, data: new Uint8Array(Buffer.from('through')) });
    t.is(text(await client.mread({ map: after, offset: 0, length: 7 })), 'through');
    t.is(text(await client.readFile({ path: fuse.backing('f') })), 'through');
    await client.munmap({ map: before });
    await client.munmap({ map: after });
    await client.errno.close({ fd });
    t.is(await fuse.unmount(), 'ok');
    t.false(await guest.isBackingBusy());
  },
);

guestTest(
  'the server is killed while a client holds the only reference after unmount (H2, H5)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse();
    await using client = await guest.client();
    const fd = await openPassthrough(fuse, client);
    t.is(await fuse.unmount(), 'EBUSY', 'an open file keeps the mount busy');
    await fuse.server.kill();
    t.is(await fuse.unmount('MNT_DETACH'), 'ok');

    t.is(await client.pwrite({ fd, data: 'written', offset: 0 }), 7);
    t.is(text(await client.pread({ fd, count: 7, offset: 0 })), 'written');
    t.is(await guest.umountBacking(), 'EBUSY');
    await client.errno.close({ fd });
    t.false(await guest.isBackingBusy());
    t.is(await fuse.waiting(), null, 'the last close ended the connection');
  },
);

guestTest('while the server is stopped I/O goes on and metadata waits for it (H1)', async (t, guest) => {
  await using fuse = await guest.mountFuse();
  // Otherwise every write would ask the server for the attribute security.capability first.
  await fuse.fail('GETXATTR', 'ENOSYS');
  await using client = await guest.client();
  const fd = await openPassthrough(fuse, client);
  await client.pwrite({ fd, data: 'backing', offset: 0 });
  await fuse.server.kill('SIGSTOP');

  const events: string[] = [];
  const stat = client.fstat({ fd }).then((value) => {
    events.push('fstat');
    return value;
  });
  // Should the test fail before it is awaited, that failure is the one to be told.
  stat.catch(() => undefined);
  t.is(await fuse.untilWaiting(1), 1, 'one request waits');
  for (let round = 0; round < 5; round++) {
    t.is(await client.pwrite({ fd, data: `write ${round}`, offset: 0 }), 7);
    t.is(text(await client.pread({ fd, count: 7, offset: 0 })), `write ${round}`);
  }
  t.is(text(await client.readFile({ path: fuse.backing('f') })), 'write 4');
  events.push('written and read');

  await fuse.server.kill('SIGCONT');
  t.is((await stat).size, 7);
  t.deepEqual(events, ['written and read', 'fstat']);
  t.deepEqual(await fuse.dataRequests(), []);
  await client.close({ fd });
  await fuse.waitFor('RELEASE');
  t.false(await guest.isBackingBusy());
});

guestTest(
  'a stopped server gets the RELEASE of files closed meanwhile when it goes on (H1)',
  async (t, guest) => {
    // NOFLUSH: close itself has nothing to wait for then.
    await using fuse = await guest.mountFuse({ openFlags: OpenFlag.NOFLUSH });
    await using client = await guest.client();
    const fd = await openPassthrough(fuse, client);
    await fuse.server.kill('SIGSTOP');
    t.is(await client.errno.close({ fd }), 'ok', 'close does not wait');
    t.is(await fuse.waiting(), 1, 'RELEASE waits in the queue');
    await fuse.server.kill('SIGCONT');
    await fuse.waitFor('RELEASE');
    t.is((await fuse.requests('RELEASE')).length, 1);
    t.false(await guest.isBackingBusy());
  },
);

guestTest(
  'a client that waits for a stopped server can be killed, and its files are released (H1, C18)',
  async (t, guest) => {
    // NOFLUSH: the end of a process has nothing to wait for then.
    await using fuse = await guest.mountFuse({ openFlags: OpenFlag.NOFLUSH });
    await using client = await guest.client();
    await using victim = await guest.client();
    const fd = await openPassthrough(fuse, victim);
    await fuse.server.kill('SIGSTOP');
    const stat = victim.errno.fstat({ fd }).catch(() => 'ended');
    t.is(await fuse.untilWaiting(1), 1);
    t.is((await victim.kill())?.signal, 'SIGKILL', 'while the server is still stopped');
    t.is(await stat, 'ended');
    await fuse.server.kill('SIGCONT');

    await fuse.waitFor('RELEASE');
    t.is((await client.stat({ path: fuse.file('f') })).size, 7, 'the server serves on');
    t.false(await guest.isBackingBusy());
  },
);

guestTest(
  'a stopped server gets the FLUSH of a file whose closer is killed meanwhile when it goes on (H1, C18)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse();
    await using client = await guest.client();
    await using victim = await guest.client();
    const fd = await openPassthrough(fuse, victim);
    await fuse.server.kill('SIGSTOP');
    const closing = victim.errno.close({ fd }).catch(() => 'ended');
    t.is(await fuse.untilWaiting(1), 1, 'FLUSH waits in the queue');
    const death = victim.kill();
    death.catch(() => undefined);
    t.is(await fuse.waiting(), 1, 'one request waits after the kill as well');
    await fuse.server.kill('SIGCONT');
    t.is((await death)?.signal, 'SIGKILL');
    await closing;
    await fuse.waitFor('RELEASE');
    t.deepEqual(await fuse.opcodes({ opcode: ['FLUSH', 'RELEASE'] }), ['FLUSH', 'RELEASE']);
    t.is((await client.stat({ path: fuse.file('f') })).size, 7, 'the server serves on');
    t.false(await guest.isBackingBusy());
  },
);
