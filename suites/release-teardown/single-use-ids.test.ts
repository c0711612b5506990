import { text } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import type { FuseMount } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';
import { needsMappings, needsSingleUseIds, openWithId } from '../lib/registration.ts';

/** The lower file is on tmpfs, where the server has nothing open itself: what keeps it busy is the kernel. */
async function registerOnTmpfs(guest: TestGuest, client: Client, fuse: FuseMount): Promise<number> {
  const path = `${await guest.directory('tmpfs')}/lower`;
  await client.writeFile({ path, data: 'lower' });
  await client.writeFile({ path: fuse.backing('f'), data: 'served' });
  return fuse.server.registerBacking({ path, flags: 'O_RDWR' });
}

guestTest('the lower file goes with the last close, before RELEASE is answered', async (t, guest) => {
  needsSingleUseIds(guest);
  await using fuse = await guest.mountFuse({ passthrough: 'off' });
  await using client = await guest.client();
  const fd = await openWithId(guest, client, { fuse, id: await registerOnTmpfs(guest, client, fuse) });
  const copy = await client.dup({ fd });
  const hold = await fuse.hold('RELEASE');
  await client.close({ fd });
  t.is(await guest.umountBacking('tmpfs'), 'EBUSY', 'a duplicate is open');
  await client.close({ fd: copy });
  const release = await hold.arrived();
  t.false(await guest.isBackingBusy('tmpfs'), 'while RELEASE waits for its answer');
  await hold.release(release);
});

guestTest('an id waiting for its open holds its file, and goes with it', async (t, guest) => {
  needsSingleUseIds(guest);
  await using fuse = await guest.mountFuse({ passthrough: 'off' });
  await using client = await guest.client();
  const id = await registerOnTmpfs(guest, client, fuse);
  t.is(await guest.umountBacking('tmpfs'), 'EBUSY', 'registered');
  const fd = await openWithId(guest, client, { fuse, id });
  t.is(await guest.umountBacking('tmpfs'), 'EBUSY', 'open');
  await client.close({ fd });
  t.false(await guest.isBackingBusy('tmpfs'), 'closed');
});

guestTest('an abort frees no id that nobody has used, unmounting does', async (t, guest) => {
  needsSingleUseIds(guest);
  await using fuse = await guest.mountFuse({ passthrough: 'off' });
  await using client = await guest.client();
  await registerOnTmpfs(guest, client, fuse);
  await fuse.abort();
  t.is(await guest.umountBacking('tmpfs'), 'EBUSY', 'aborted');
  await fuse.server.kill();
  t.is(await guest.umountBacking('tmpfs'), 'EBUSY', 'and without a server');
  t.is(await fuse.unmount(), 'ok');
  t.false(await guest.isBackingBusy('tmpfs'), 'and without a mount');
});

guestTest(
  'an open file outlives its connection, and lets its lower file go when closed',
  async (t, guest) => {
    needsSingleUseIds(guest);
    await using fuse = await guest.mountFuse({ passthrough: 'off' });
    await using client = await guest.client();
    const fd = await openWithId(guest, client, { fuse, id: await registerOnTmpfs(guest, client, fuse) });
    await fuse.server.kill();
    t.is(await fuse.unmount('MNT_DETACH'), 'ok');
    t.is(text(await client.pread({ fd, count: 100, offset: 0 })), 'lower');
    t.is(await client.pwrite({ fd, data: 'written', offset: 0 }), 7);
    t.is(await guest.umountBacking('tmpfs'), 'EBUSY');
    await client.errno.close({ fd });
    t.false(await guest.isBackingBusy('tmpfs'));
  },
);

guestTest('a client killed with passthrough files open lets their lower files go', async (t, guest) => {
  needsSingleUseIds(guest);
  await using fuse = await guest.mountFuse({ passthrough: 'off' });
  await using client = await guest.client();
  await using victim = await guest.client();
  for (let count = 0; count < 3; count++) {
    await openWithId(guest, victim, { fuse, id: await registerOnTmpfs(guest, client, fuse) });
  }
  t.is(await guest.umountBacking('tmpfs'), 'EBUSY');
  await victim.kill();
  let after = 0;
  for (let count = 0; count < 3; count++) after = (await fuse.waitFor({ opcode: 'RELEASE', after })).seq;
  t.false(await guest.isBackingBusy('tmpfs'));
});

guestTest('a mapping holds the lower file, not the file of FUSE', async (t, guest) => {
  needsSingleUseIds(guest);
  needsMappings(guest);
  await using fuse = await guest.mountFuse({ passthrough: 'off' });
  await using client = await guest.client();
  const fd = await openWithId(guest, client, { fuse, id: await registerOnTmpfs(guest, client, fuse) });
  const map = await client.mmap({ fd, length: 4096, prot: 'PROT_READ', flags: 'MAP_SHARED' });
  await client.close({ fd });
  await fuse.waitFor('RELEASE');
  t.is(await fuse.unmount(), 'ok', 'the mapping does not keep FUSE mounted');
  t.is(await fuse.waiting(), null, 'nor its connection');
  t.is(text(await client.mread({ map, offset: 0, length: 5 })), 'lower');
  t.is(await guest.umountBacking('tmpfs'), 'EBUSY');
  await client.munmap({ map });
  t.false(await guest.isBackingBusy('tmpfs'));
});

guestTest('the answer to an open that was given up leaves no lower file behind', async (t, guest) => {
  needsSingleUseIds(guest);
  await using fuse = await guest.mountFuse({ passthrough: 'off' });
  await using client = await guest.client();
  await using victim = await guest.client();
  const backingId = await registerOnTmpfs(guest, client, fuse);
  const hold = await fuse.hold('OPEN');
  const opening = victim.errno.open({ path: fuse.file('f'), flags: 'O_RDWR' }).catch(() => 'ended');
  const open = await hold.arrived();
  await hold.stop();
  const death = victim.kill();
  await fuse.waitFor({ opcode: 'INTERRUPT', after: open.seq }, 'arrived');
  await hold.release(open, { do: 'open', open: { openFlags: 0, backingId } });
  await death;
  await opening;
  await fuse.waitFor('RELEASE');
  t.false(await guest.isBackingBusy('tmpfs'), 'the file of the dead client has taken it along');
});

guestTest('many opens with ids of their own leave nothing, and no id behind', async (t, guest) => {
  needsSingleUseIds(guest);
  await using fuse = await guest.mountFuse({ passthrough: 'off' });
  await using client = await guest.client();
  const path = `${await guest.directory('tmpfs')}/lower`;
  await client.writeFile({ path, data: 'lower' });
  await client.writeFile({ path: fuse.backing('f'), data: 'served' });
  for (let round = 0; round < 30; round++) {
    const id = await fuse.server.registerBacking({ path, flags: 'O_RDWR' });
    t.is(id, 1, 'the same id is free each time');
    const fd = await openWithId(guest, client, { fuse, id });
    t.is(text(await client.pread({ fd, count: 100, offset: 0 })), 'lower');
    await client.close({ fd });
  }
  t.false(await guest.isBackingBusy('tmpfs'));
  t.deepEqual(await fuse.dataRequests(), []);
});
