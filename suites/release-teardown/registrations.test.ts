import { text } from '../lib/bytes.ts';
import { OpenFlag } from '../lib/fuse-abi.ts';
import { guestTest } from '../lib/guest-test.ts';
import { openErrno } from '../lib/open-errno.ts';
import { needsLastingIds } from '../lib/registration.ts';

const { PASSTHROUGH } = OpenFlag;

guestTest('after BACKING_CLOSE open files go on, and new opens with the id fail (C2)', async (t, guest) => {
  needsLastingIds(guest);
  await using fuse = await guest.mountFuse({ passthrough: 'off' });
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'backing' });
  const backingId = await fuse.server.registerBacking({ path: fuse.backing('f'), flags: 'O_RDWR' });
  await fuse.answerOpen('OPEN', { openFlags: PASSTHROUGH, backingId });
  const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
  t.is(await fuse.server.closeBacking(backingId), 'ok');

  t.is(text(await client.pread({ fd, count: 7, offset: 0 })), 'backing');
  await client.pwrite({ fd, data: 'written', offset: 0 });
  const map = await client.mmap({ fd, length: 4096, prot: 'PROT_READ', flags: 'MAP_SHARED' });
  t.is(text(await client.mread({ map, offset: 0, length: 7 })), 'written');
  t.is(await openErrno(client, fuse.file('f')), 'EIO', 'a new open');
  t.is(await guest.umountBacking(), 'EBUSY', 'the open file holds it');
  t.is(text(await client.pread({ fd, count: 7, offset: 0 })), 'written', 'the failed open took nothing away');

  await client.munmap({ map });
  await client.close({ fd });
  const handles = (await fuse.requests('OPEN')).map(({ reply }) => reply?.open?.fh);
  await fuse.waitFor({ opcode: 'RELEASE', after: (await fuse.requests('RELEASE'))[0]?.seq ?? 0 });
  const released = (await fuse.requests('RELEASE')).map(({ args }) => args['fh']);
  t.deepEqual(released.sort(), handles.sort());
  t.deepEqual(await fuse.dataRequests(), []);
  t.false(await guest.isBackingBusy());
});

guestTest(
  'a server that closes its descriptor right after registering has done enough (C1)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse({ passthrough: 'off' });
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'served' });
    await client.writeFile({ path: fuse.backing('b'), data: 'backing' });
    // registerBacking opens, registers and closes before it returns.
    const backingId = await fuse.server.registerBacking({ path: fuse.backing('b'), flags: 'O_RDWR' });
    await client.unlink({ path: fuse.backing('b') });

    await fuse.answerOpen('OPEN', { openFlags: guest.expected.passthroughFlag, backingId }, 1);
    const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
    t.is(text(await client.pread({ fd, count: 7, offset: 0 })), 'backing', 'the name is not needed either');
    await client.pwrite({ fd, data: 'written', offset: 0 });
    t.is(text(await client.pread({ fd, count: 7, offset: 0 })), 'written');
    await client.close({ fd });
    await fuse.waitFor('RELEASE');
    t.deepEqual(await fuse.dataRequests(), []);
    if (guest.expected.hasClose) {
      t.is(await guest.umountBacking(), 'EBUSY', 'the id alone holds it');
      t.is(await fuse.server.closeBacking(backingId), 'ok');
    }
    t.false(await guest.isBackingBusy());
  },
);

guestTest(
  'BACKING_CLOSE while RELEASE waits for its answer frees the backing file (C4)',
  async (t, guest) => {
    needsLastingIds(guest);
    await using fuse = await guest.mountFuse({ passthrough: 'off' });
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('b'), data: 'backing' });
    const backingId = await fuse.server.registerBacking({ path: fuse.backing('b'), flags: 'O_RDWR' });
    // The server has nothing of the file open itself: a handle of its own making.
    const open = new Uint8Array(16);
    const view = new DataView(open.buffer);
    view.setBigUint64(0, 4711n, true);
    view.setUint32(8, PASSTHROUGH, true);
    view.setInt32(12, backingId, true);
    await fuse.rule({ match: { opcode: 'OPEN' }, action: { do: 'body', body: open } });
    const hold = await fuse.hold('RELEASE');
    t.is(text(await client.readFile({ path: fuse.file('b') })), 'backing');

    const release = await hold.arrived();
    t.is(release.args['fh'], 4711);
    t.is(await guest.umountBacking(), 'EBUSY', 'the id holds it');
    t.is(await fuse.server.closeBacking(backingId), 'ok');
    t.false(await guest.isBackingBusy(), 'though RELEASE is still unanswered');
    await hold.release(release);
  },
);

guestTest('ids that the server forgets are freed with the connection (C12)', async (t, guest) => {
  await using fuse = await guest.mountFuse({ passthrough: 'off' });
  await using client = await guest.client();
  for (const name of ['a', 'b', 'c']) {
    await client.writeFile({ path: fuse.backing(name), data: name });
    await fuse.server.registerBacking({ path: fuse.backing(name), flags: 'O_RDWR' });
  }
  t.is(await guest.umountBacking(), 'EBUSY', 'registered');
  t.is(await fuse.unmount(), 'ok');
  t.is(await fuse.waiting(), null, 'no connection any more');
  await fuse.server.closeDevice(0);
  t.false(await guest.isBackingBusy(), 'the server lives on, without ids');
});

guestTest('ids that the server forgets are freed when it is killed and unmounted (C12)', async (t, guest) => {
  await using fuse = await guest.mountFuse({ passthrough: 'off' });
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'x' });
  await fuse.server.registerBacking({ path: fuse.backing('f'), flags: 'O_RDWR' });

  await fuse.server.kill();
  t.is(await guest.umountBacking(), 'EBUSY', 'the mount keeps the dead connection and its ids');
  t.is(await fuse.unmount(), 'ok');
  t.false(await guest.isBackingBusy());
});

guestTest('an open that fails leaves no reference to the backing file (C15)', async (t, guest) => {
  needsLastingIds(guest);
  await using fuse = await guest.mountFuse({ passthrough: 'off' });
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'x' });
  const backingId = await fuse.server.registerBacking({ path: fuse.backing('f'), flags: 'O_RDWR' });
  const refusals = {
    'refused flag': { openFlags: PASSTHROUGH | OpenFlag.KEEP_CACHE, backingId },
    'unknown id': { openFlags: PASSTHROUGH, backingId: backingId + 1 },
    'impossible id': { openFlags: PASSTHROUGH, backingId: -1 },
  };
  for (const [what, answer] of Object.entries(refusals)) {
    for (let round = 0; round < 3; round++) {
      await fuse.answerOpen('OPEN', answer, 1);
      t.is(await openErrno(client, fuse.file('f')), 'EIO', what);
    }
  }
  t.deepEqual((await fuse.state()).handles, [], 'each had its RELEASE');
  t.is(await fuse.server.closeBacking(backingId), 'ok');
  t.false(await guest.isBackingBusy());
});

guestTest(
  'an open refused because the inode is bound to another registration leaves nothing (C15, D4)',
  async (t, guest) => {
    needsLastingIds(guest);
    await using fuse = await guest.mountFuse({ passthrough: 'off' });
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'backing' });
    const file = { path: fuse.backing('f'), flags: 'O_RDWR' };
    const [one, other] = [await fuse.server.registerBacking(file), await fuse.server.registerBacking(file)];
    await fuse.answerOpen('OPEN', { openFlags: PASSTHROUGH, backingId: one }, 1);
    const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
    await fuse.answerOpen('OPEN', { openFlags: PASSTHROUGH, backingId: other });
    for (let round = 0; round < 3; round++) t.is(await openErrno(client, fuse.file('f')), 'EIO');

    t.is(text(await client.pread({ fd, count: 7, offset: 0 })), 'backing', 'the open file is unharmed');
    t.is(await fuse.server.closeBacking(one), 'ok');
    t.is(await fuse.server.closeBacking(other), 'ok');
    const { lastSeq: after } = await fuse.server.call('log.get', {});
    await client.close({ fd });
    await fuse.waitFor({ opcode: 'RELEASE', after });
    t.deepEqual(await fuse.dataRequests(), []);
    t.false(await guest.isBackingBusy());
  },
);

guestTest('a backing file that cannot be opened as asked leaves nothing (C15, F8)', async (t, guest) => {
  needsLastingIds(guest);
  await using fuse = await guest.mountFuse({ passthrough: 'off' });
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'x' });
  const readOnly = await guest.mount({ source: fuse.root, type: 'none', flags: 'MS_BIND' });
  const target = readOnly.path;
  await client.mount({ source: 'none', target, type: 'none', flags: 'MS_REMOUNT|MS_BIND|MS_RDONLY' });
  const backingId = await fuse.server.registerBacking({ path: readOnly.file('f'), flags: 'O_RDONLY' });
  await fuse.answerOpen('OPEN', { openFlags: PASSTHROUGH, backingId });
  for (let round = 0; round < 3; round++) t.is(await openErrno(client, fuse.file('f')), 'EIO');

  t.is(await readOnly.unmount(), 'EBUSY', 'the id holds the read-only mount');
  t.is(await fuse.server.closeBacking(backingId), 'ok');
  t.is(await readOnly.unmount(), 'ok');
  await readOnly[Symbol.asyncDispose]();
  t.false(await guest.isBackingBusy());
});

guestTest('a CREATE that fails leaves the file and nothing else (B22, C15)', async (t, guest) => {
  needsLastingIds(guest);
  await using fuse = await guest.mountFuse({ passthrough: 'off' });
  await using client = await guest.client();
  for (const backingId of [0, 999]) {
    await fuse.answerOpen('CREATE', { openFlags: PASSTHROUGH, backingId }, 1);
    t.is(await openErrno(client, fuse.file(`f${backingId}`), 'O_RDWR|O_CREAT|O_EXCL'), 'EIO');
    t.is(await client.errno.stat({ path: fuse.backing(`f${backingId}`) }), 'ok');
  }
  t.deepEqual((await fuse.state()).handles, []);
  t.false(await guest.isBackingBusy());
});
