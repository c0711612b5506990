import { text } from '../lib/bytes.ts';
import type { BatchCall } from '../lib/client.ts';
import { u32 } from '../lib/entry-answer.ts';
import { backingMap, DeviceIoctl } from '../lib/fuse-abi.ts';
import { guestTest } from '../lib/guest-test.ts';
import { openErrno } from '../lib/open-errno.ts';
import { forgetId, needsLastingIds, openWithId } from '../lib/registration.ts';

guestTest('ids count from 1 on every connection (B17)', async (t, guest) => {
  await using one = await guest.mountFuse();
  await using other = await guest.mountFuse();
  await using client = await guest.client();
  await client.writeFile({ path: one.backing('f'), data: 'x' });
  const file = { path: one.backing('f'), flags: 'O_RDWR' };

  for (const id of [1, 2, 3]) t.is(await one.server.registerBacking(file), id);
  t.is(await other.server.registerBacking(file), 1, 'the other connection counts for itself');
});

guestTest('a closed id is not given out again soon (B17)', async (t, guest) => {
  needsLastingIds(guest);
  await using fuse = await guest.mountFuse();
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'x' });
  const file = { path: fuse.backing('f'), flags: 'O_RDWR' };

  const first = await fuse.server.registerBacking(file);
  t.is(await fuse.server.registerBacking(file), first + 1);
  t.is(await fuse.server.closeBacking(first), 'ok');
  t.is(await fuse.server.registerBacking(file), first + 2);
  t.is(await fuse.server.closeBacking(first + 2), 'ok');
  t.is(await fuse.server.registerBacking(file), first + 3, 'not even the newest one');
});

guestTest(
  'one file registered twice has two ids, and an open inode takes only the first (B17, D4)',
  async (t, guest) => {
    needsLastingIds(guest);
    await using fuse = await guest.mountFuse({ passthrough: 'off' });
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'x' });
    const file = { path: fuse.backing('f'), flags: 'O_RDWR' };
    const [one, other] = [await fuse.server.registerBacking(file), await fuse.server.registerBacking(file)];
    t.not(one, other);

    await fuse.answerOpen('OPEN', { openFlags: guest.expected.passthroughFlag, backingId: one }, 1);
    const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
    await fuse.answerOpen('OPEN', { openFlags: guest.expected.passthroughFlag, backingId: other }, 2);
    t.is(await openErrno(client, fuse.file('f')), 'EIO', 'the second id while the first is in use');
    await client.close({ fd });
    t.is(await openErrno(client, fuse.file('f')), 'ok', 'the second id afterwards');
  },
);

guestTest('one id serves any number of opens and inodes (C3)', async (t, guest) => {
  needsLastingIds(guest);
  await using fuse = await guest.mountFuse({ passthrough: 'off' });
  await using client = await guest.client();
  for (const name of ['a', 'b', 'c']) await client.writeFile({ path: fuse.backing(name), data: name });
  await client.writeFile({ path: fuse.backing('shared'), data: 'one backing file for all' });
  const id = await fuse.server.registerBacking({ path: fuse.backing('shared'), flags: 'O_RDWR' });
  await fuse.answerOpen('OPEN', { openFlags: guest.expected.passthroughFlag, backingId: id });

  for (const name of ['a', 'b', 'c', 'a']) {
    const fd = await client.open({ path: fuse.file(name), flags: 'O_RDWR' });
    t.is(text(await client.pread({ fd, count: 100, offset: 0 })), 'one backing file for all', name);
  }
  t.deepEqual(await fuse.dataRequests(), []);
});

guestTest('an id of another connection is unknown here (B14)', async (t, guest) => {
  await using one = await guest.mountFuse({ passthrough: 'off' });
  await using other = await guest.mountFuse({ passthrough: 'off' });
  await using client = await guest.client();
  await client.writeFile({ path: one.backing('f'), data: 'x' });
  await client.writeFile({ path: other.backing('f'), data: 'x' });
  const file = { path: one.backing('f'), flags: 'O_RDWR' };
  await one.server.registerBacking(file);
  const id = await one.server.registerBacking(file);

  const answer = { openFlags: guest.expected.passthroughFlag, backingId: id };
  await other.answerOpen('OPEN', answer, 1);
  t.is(await openErrno(client, other.file('f')), guest.expected.unknownIdAtOpen);
  await one.answerOpen('OPEN', answer, 1);
  t.is(text(await client.readFile({ path: one.file('f') })), 'x', 'at home it is good');
  t.deepEqual(await one.dataRequests(), []);
});

guestTest('a cloned device registers, opens and closes for the whole connection (B16)', async (t, guest) => {
  await using fuse = await guest.mountFuse({ passthrough: 'off' });
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'from the backing file' });
  const { device } = await fuse.server.cloneDevice();
  const file = { path: fuse.backing('f'), flags: 'O_RDWR' };

  const id = await fuse.server.registerBacking(file, { device });
  t.is(await fuse.server.registerBacking(file), id + 1, 'both count together');
  for (const each of guest.expected.idsAreReusable ? [id] : [id, id + 1]) {
    await fuse.answerOpen('OPEN', { openFlags: guest.expected.passthroughFlag, backingId: each }, 1);
    t.is(text(await client.readFile({ path: fuse.file('f') })), 'from the backing file', `id ${each}`);
  }
  if (guest.expected.hasClose) {
    t.is(await fuse.server.closeBacking(id, 0), 'ok', 'registered on the clone, closed on the original');
    t.is(await fuse.server.closeBacking(id + 1, device), 'ok', 'and the other way round');
  }
  t.deepEqual(await fuse.dataRequests(), []);
});

guestTest('an id outlives the cloned device it was registered on (B16)', async (t, guest) => {
  await using fuse = await guest.mountFuse({ passthrough: 'off' });
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'from the backing file' });
  const { device } = await fuse.server.cloneDevice();
  const id = await fuse.server.registerBacking({ path: fuse.backing('f'), flags: 'O_RDWR' }, { device });
  await fuse.server.closeDevice(device);

  await fuse.answerOpen('OPEN', { openFlags: guest.expected.passthroughFlag, backingId: id }, 1);
  t.is(text(await client.readFile({ path: fuse.file('f') })), 'from the backing file');
  if (guest.expected.hasClose) t.is(await fuse.server.closeBacking(id), 'ok');
  t.deepEqual(await fuse.dataRequests(), []);
});

guestTest('another process may register through the shared device, and end (B16, F2)', async (t, guest) => {
  await using fuse = await guest.mountFuse({ passthrough: 'off' });
  await using registrar = await guest.client();
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'from the backing file' });
  const device = await fuse.server.lendDevice(registrar);
  const fd = await registrar.open({ path: fuse.backing('f'), flags: 'O_RDWR' });
  const request = DeviceIoctl.BACKING_OPEN;
  const { ret: id } = await registrar.ioctl({ fd: device, request, arg: backingMap(fd) });
  await registrar.kill();

  await fuse.answerOpen('OPEN', { openFlags: guest.expected.passthroughFlag, backingId: id }, 1);
  t.is(text(await client.readFile({ path: fuse.file('f') })), 'from the backing file');
  if (guest.expected.hasClose) {
    t.is(await fuse.server.closeBacking(id), 'ok', 'the server closes what another process registered');
  }
  t.deepEqual(await fuse.dataRequests(), []);
});

guestTest(
  'a registered file is in no table of open files, yet it holds its filesystem (C11, C16)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse({ passthrough: 'off' });
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'x' });
    const id = await fuse.server.registerBacking({ path: fuse.backing('f'), flags: 'O_RDWR' });

    const links = await guest.run(['ls', '-l', `/proc/${fuse.server.pid}/fd`]);
    t.notRegex(links.stdout, new RegExp(fuse.root), 'the server has it open no longer');
    t.is(await guest.umountBacking(), 'EBUSY');
    t.is(await forgetId(guest, client, { fuse, id }), 'ok');
    t.false(await guest.isBackingBusy());
  },
);

const MANY = 1000;

guestTest(
  'a thousand registrations are as many ids, need no further descriptors, and can all be closed (B28)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse({ passthrough: 'off' });
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'backing' });
    const device = await fuse.server.lendDevice(client);
    const file = await client.open({ path: fuse.backing('f'), flags: 'O_RDWR' });
    await client.setrlimit({ resource: 'RLIMIT_NOFILE', soft: 100 });
    const ioctls = async (request: number, args: readonly Uint8Array[]): Promise<(number | string)[]> => {
      const calls = args.map((arg): BatchCall => ({ call: 'ioctl', args: { fd: device, request, arg } }));
      const results = await client.batch({ calls });
      return results.map((each) => ('errno' in each ? each.errno : (each.value as { ret: number }).ret));
    };

    const map = backingMap(file);
    const ids = await ioctls(DeviceIoctl.BACKING_OPEN, Array<Uint8Array>(MANY).fill(map));
    t.deepEqual(
      ids,
      Array.from({ length: MANY }, (_, index) => index + 1),
    );
    const last = await openWithId(guest, client, { fuse, id: MANY });
    t.is(text(await client.pread({ fd: last, count: 7, offset: 0 })), 'backing', 'the last works');
    for (const fd of [last, file]) await client.close({ fd });
    t.deepEqual(await fuse.dataRequests(), []);
    t.is(await guest.umountBacking(), 'EBUSY', 'the file is held by its registrations alone');
    if (guest.expected.hasClose) {
      const words = ids.map((id) => u32(Number(id)));
      const closed = await ioctls(DeviceIoctl.BACKING_CLOSE, words);
      t.deepEqual([...new Set(closed)], [0], 'all are closed');
    } else {
      await client.close({ fd: device });
      t.is(await fuse.unmount(), 'ok');
      await fuse.server.closeDevice(0);
    }
    t.false(await guest.isBackingBusy(), 'and let the file go');
  },
);
