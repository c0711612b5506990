import { text } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import { OpenFlag } from '../lib/fuse-abi.ts';
import type { FuseMount } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';
import { openErrno } from '../lib/open-errno.ts';
import { needsMappings, needsSingleUseIds, OPEN_FLAG_BITS, openWithId } from '../lib/registration.ts';

const SERVED = 'what the server would read';
const BACKING = 'what the backing file has';

/** `f` is what clients open; `b`, which differs, is what is registered: data tell where they come from. */
async function prepare(fuse: FuseMount, client: Client): Promise<void> {
  await client.writeFile({ path: fuse.backing('f'), data: SERVED });
  await client.writeFile({ path: fuse.backing('b'), data: BACKING });
}

function registerB(fuse: FuseMount): Promise<number> {
  return fuse.server.registerBacking({ path: fuse.backing('b'), flags: 'O_RDWR' });
}

guestTest('an id makes passthrough with any flag of the open answer beside it', async (t, guest) => {
  needsSingleUseIds(guest);
  await using fuse = await guest.mountFuse({ passthrough: 'off' });
  await using client = await guest.client();
  await prepare(fuse, client);
  for (const [what, openFlags] of Object.entries(OPEN_FLAG_BITS)) {
    await fuse.answerOpen('OPEN', { openFlags, backingId: await registerB(fuse) }, 1);
    const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
    // Once: a stream has no position, and would be read from its start for ever.
    t.is(text(await client.read({ fd, count: 100 })), BACKING, what);
    await client.close({ fd });
  }
  t.deepEqual(await fuse.dataRequests(), []);
});

guestTest('passthrough comes before DIRECT_IO for reads, writes and mappings', async (t, guest) => {
  needsSingleUseIds(guest);
  await using fuse = await guest.mountFuse({ passthrough: 'off' });
  await using client = await guest.client();
  await prepare(fuse, client);
  const answer = { openFlags: OpenFlag.DIRECT_IO, backingId: await registerB(fuse) };
  await fuse.answerOpen('OPEN', answer, 1);
  const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
  t.is(text(await client.pread({ fd, count: 100, offset: 0 })), BACKING);
  await client.pwrite({ fd, data: 'WHAT', offset: 0 });
  if (guest.expected.mapsBackingFile) {
    const map = await client.mmap({ fd, length: 4096, prot: 'PROT_READ', flags: 'MAP_SHARED' });
    t.is(text(await client.mread({ map, offset: 0, length: 8 })), 'WHAT the');
    await client.munmap({ map });
  }
  await client.close({ fd });
  t.is(text(await client.readFile({ path: fuse.backing('b') })), 'WHAT the backing file has');
  t.is(text(await client.readFile({ path: fuse.backing('f') })), SERVED, 'the served file is as it was');
  t.deepEqual(await fuse.dataRequests(), []);
});

guestTest('ids that cannot be, are unknown or were used make an ordinary open', async (t, guest) => {
  needsSingleUseIds(guest);
  await using fuse = await guest.mountFuse({ passthrough: 'off' });
  await using client = await guest.client();
  await prepare(fuse, client);
  const used = await registerB(fuse);
  await client.close({ fd: await openWithId(guest, client, { fuse, id: used }) });
  for (const id of [0, -1, -0x8000_0000, 999, 0x7fff_ffff, used]) {
    const after = await fuse.position();
    const fd = await openWithId(guest, client, { fuse, id });
    t.is(text(await client.pread({ fd, count: 100, offset: 0 })), SERVED, `id ${id}`);
    await client.close({ fd });
    t.deepEqual(await fuse.opcodes({ opcode: 'READ', after }), ['READ'], `id ${id}`);
  }
});

guestTest('an id works for one open: the second of two is an ordinary one', async (t, guest) => {
  needsSingleUseIds(guest);
  await using fuse = await guest.mountFuse({ passthrough: 'off' });
  await using client = await guest.client();
  await prepare(fuse, client);
  const id = await registerB(fuse);
  const first = await openWithId(guest, client, { fuse, id });
  const second = await openWithId(guest, client, { fuse, id });
  t.is(text(await client.pread({ fd: first, count: 100, offset: 0 })), BACKING);
  t.is(text(await client.pread({ fd: second, count: 100, offset: 0 })), SERVED);
  t.is((await fuse.requests('READ')).length, 1);
  for (const fd of [first, second]) await client.close({ fd });
});

guestTest('of two opens answered at once with one id, one is in passthrough mode', async (t, guest) => {
  needsSingleUseIds(guest);
  await using fuse = await guest.mountFuse({ passthrough: 'off' });
  await using one = await guest.client();
  await using other = await guest.client();
  await prepare(fuse, one);
  const backingId = await registerB(fuse);
  const hold = await fuse.hold('OPEN');
  const opening = [one, other].map((client) => client.open({ path: fuse.file('f'), flags: 'O_RDWR' }));
  const held = [await hold.arrived(), await hold.arrived()];
  const open = { openFlags: 0, backingId };
  await Promise.all(held.map((request) => hold.release(request, { do: 'open', open })));
  const [first = -1, second = -1] = await Promise.all(opening);
  await hold.stop();
  const seen = [
    text(await one.pread({ fd: first, count: 100, offset: 0 })),
    text(await other.pread({ fd: second, count: 100, offset: 0 })),
  ];
  t.deepEqual(seen.sort(), [BACKING, SERVED].sort());
});

guestTest('an OPEN answered with an error leaves the id for the next', async (t, guest) => {
  needsSingleUseIds(guest);
  await using fuse = await guest.mountFuse({ passthrough: 'off' });
  await using client = await guest.client();
  await prepare(fuse, client);
  const id = await registerB(fuse);
  // Error and body at once: what is in the body must not be looked at.
  const answer = new Uint8Array(32);
  const view = new DataView(answer.buffer);
  view.setUint32(0, answer.length, true);
  view.setInt32(4, -13, true);
  view.setInt32(28, id, true);
  const refused = { match: { opcode: 'OPEN' }, times: 1, action: { do: 'raw', bytes: answer } } as const;
  await fuse.rule(refused);
  t.is(await openErrno(client, fuse.file('f')), 'EIO', 'an answer with an error and a body');
  await fuse.fail('OPEN', 'EACCES', 1);
  t.is(await openErrno(client, fuse.file('f')), 'EACCES');

  const fd = await openWithId(guest, client, { fuse, id });
  t.is(text(await client.pread({ fd, count: 100, offset: 0 })), BACKING);
  await client.close({ fd });
});

guestTest('OPENDIR uses an id up and holds its file until RELEASEDIR', async (t, guest) => {
  needsSingleUseIds(guest);
  await using fuse = await guest.mountFuse({ passthrough: 'off' });
  await using client = await guest.client();
  await prepare(fuse, client);
  const tmpfs = `${await guest.directory('tmpfs')}/b`;
  await client.writeFile({ path: tmpfs, data: BACKING });
  const id = await fuse.server.registerBacking({ path: tmpfs, flags: 'O_RDWR' });
  await fuse.answerOpen('OPENDIR', { openFlags: 0, backingId: id }, 1);
  const directory = await client.open({ path: fuse.path, flags: 'O_RDONLY|O_DIRECTORY' });

  const fd = await openWithId(guest, client, { fuse, id });
  t.is(text(await client.pread({ fd, count: 100, offset: 0 })), SERVED, 'the id is gone');
  await client.close({ fd });
  t.is(await guest.umountBacking('tmpfs'), 'EBUSY', 'held by an open directory');
  await client.close({ fd: directory });
  t.false(await guest.isBackingBusy('tmpfs'), 'after closedir');
});

guestTest('CREATE takes an id as OPEN does, and makes the file with a bad one', async (t, guest) => {
  needsSingleUseIds(guest);
  await using fuse = await guest.mountFuse({ passthrough: 'off' });
  await using client = await guest.client();
  await prepare(fuse, client);
  const flags = 'O_RDWR|O_CREAT|O_EXCL';
  const good = await openWithId(guest, client, { fuse, id: await registerB(fuse), name: 'good', flags });
  t.is(text(await client.pread({ fd: good, count: 100, offset: 0 })), BACKING);
  await client.close({ fd: good });
  t.deepEqual(await fuse.dataRequests(), []);

  for (const id of [-1, 999]) {
    const name = `bad${id}`;
    const fd = await openWithId(guest, client, { fuse, id, name, flags });
    await client.pwrite({ fd, data: 'through the server', offset: 0 });
    await client.close({ fd });
    t.is(text(await client.readFile({ path: fuse.backing(name) })), 'through the server', `id ${id}`);
  }
});

guestTest('a CREATE answered with an error uses no id up', async (t, guest) => {
  needsSingleUseIds(guest);
  await using fuse = await guest.mountFuse({ passthrough: 'off' });
  await using client = await guest.client();
  await prepare(fuse, client);
  const id = await registerB(fuse);
  await fuse.fail('CREATE', 'ENOSPC', 1);
  t.is(await openErrno(client, fuse.file('new'), 'O_RDWR|O_CREAT'), 'ENOSPC');
  const fd = await openWithId(guest, client, { fuse, id });
  t.is(text(await client.pread({ fd, count: 100, offset: 0 })), BACKING);
  await client.close({ fd });
});

guestTest('two ids of one file are two lower files on one inode, and agree', async (t, guest) => {
  needsSingleUseIds(guest);
  await using fuse = await guest.mountFuse({ passthrough: 'off' });
  await using client = await guest.client();
  await prepare(fuse, client);
  const one = await openWithId(guest, client, { fuse, id: await registerB(fuse) });
  const other = await openWithId(guest, client, { fuse, id: await registerB(fuse) });
  await client.pwrite({ fd: one, data: 'ONE', offset: 0 });
  await client.pwrite({ fd: other, data: 'TWO', offset: 3 });
  for (const fd of [one, other]) {
    t.is(text(await client.pread({ fd, count: 6, offset: 0 })), 'ONETWO');
    await client.close({ fd });
  }
  t.deepEqual(await fuse.dataRequests(), []);
});

guestTest('one inode can have different lower files, each open its own', async (t, guest) => {
  needsSingleUseIds(guest);
  needsMappings(guest);
  await using fuse = await guest.mountFuse({ passthrough: 'off' });
  await using client = await guest.client();
  await prepare(fuse, client);
  const elsewhere = await fuse.server.registerBacking({ path: fuse.backing('f'), flags: 'O_RDWR' });
  const one = await openWithId(guest, client, { fuse, id: await registerB(fuse) });
  const other = await openWithId(guest, client, { fuse, id: elsewhere });
  const contents = [
    { fd: one, expected: BACKING },
    { fd: other, expected: SERVED },
  ];
  for (const { fd, expected } of contents) {
    t.is(text(await client.pread({ fd, count: 100, offset: 0 })), expected);
    const map = await client.mmap({ fd, length: 4096, prot: 'PROT_READ', flags: 'MAP_SHARED' });
    t.is(text(await client.mread({ map, offset: 0, length: expected.length })), expected, 'mapping');
    await client.munmap({ map });
    await client.close({ fd });
  }
  t.deepEqual(await fuse.dataRequests(), []);
});
