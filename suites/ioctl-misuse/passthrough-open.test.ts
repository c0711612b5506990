import { backingMap, DeviceIoctl } from '../lib/fuse-abi.ts';
import { guestTest } from '../lib/guest-test.ts';
import { forgetId, needsSingleUseIds, openWithId, WITHOUT_PASSTHROUGH } from '../lib/registration.ts';

/** FUSE_DEV_IOC_PASSTHROUGH_OPEN of the 2021 series has the number that BACKING_OPEN got later. */
const PASSTHROUGH_OPEN = DeviceIoctl.BACKING_OPEN;

/** One number with every size and direction: the 2021 series looks at magic and number alone. */
const SAME_REQUEST: Readonly<Record<string, number>> = {
  'as defined': 0x4010_e501,
  'twelve bytes, as 32-bit programs say': 0x400c_e501,
  'twenty-four bytes, as in V9': 0x4018_e501,
  'no size and no direction': 0x0000_e501,
  'read instead of write': 0x8010_e501,
  'read and write': 0xc010_e501,
  'the greatest size': 0x7fff_e501,
};

guestTest('size and direction of PASSTHROUGH_OPEN do not matter', async (t, guest) => {
  needsSingleUseIds(guest);
  await using fuse = await guest.mountFuse();
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'x' });
  const fdFrom = { path: fuse.backing('f'), flags: 'O_RDWR' };
  let id = 0;
  for (const [what, request] of Object.entries(SAME_REQUEST)) {
    const result = await fuse.server.ioctl(request, backingMap(-1), { fdFrom });
    t.is('errno' in result ? result.errno : result.value.ret, ++id, what);
  }
});

guestTest('numbers beside PASSTHROUGH_OPEN get ENOTTY and leave the ids alone', async (t, guest) => {
  needsSingleUseIds(guest);
  await using fuse = await guest.mountFuse();
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'x' });
  const fdFrom = { path: fuse.backing('f'), flags: 'O_RDWR' };
  const id = await fuse.server.registerBacking(fdFrom);
  const others = {
    'what BACKING_CLOSE is today': 0x4004_e502,
    'what SYNC_INIT is today': 0x0000_e503,
    'the first of Android': 0x4010_e57f,
    'the second of Android': 0x4004_e57e,
    'the last number': 0x4010_e5ff,
  };
  for (const [what, request] of Object.entries(others)) {
    t.is(await fuse.server.ioctlErrno(request, backingMap(id), { fdFrom }), 'ENOTTY', what);
  }
  t.is(await fuse.server.registerBacking(fdFrom), id + 1, 'none of them made or took an id');
});

guestTest('a foreign magic gets EINVAL, whatever the number and the mount', async (t, guest) => {
  needsSingleUseIds(guest);
  await using fuse = await guest.mountFuse();
  await using apart = await guest.server();
  const { device } = await apart.openDevice();
  for (const request of [0x4010_e401, 0x4010_e601, 0x8004_e400, 0x4010_0001, 0x5413, 0]) {
    const what = `0x${request.toString(16)}`;
    t.is(await fuse.server.ioctlErrno(request, backingMap(-1)), 'EINVAL', what);
    t.is(await apart.ioctlErrno(request, 'bad-pointer', { device }), 'EINVAL', `${what}, not mounted`);
  }
});

guestTest('wrong in two ways, PASSTHROUGH_OPEN names what it looks at first', async (t, guest) => {
  needsSingleUseIds(guest);
  await using fuse = await guest.mountFuse();
  await using off = await guest.mountFuse({ passthrough: 'off', init: WITHOUT_PASSTHROUGH });
  await using apart = await guest.server();
  const { device } = await apart.openDevice();
  const map = (fd: number, length = 0): Uint8Array => backingMap(fd, length);
  const directory = { fdFrom: { path: fuse.root, flags: 'O_RDONLY|O_DIRECTORY' } };
  const procFile = { fdFrom: { path: '/proc/version', flags: 'O_RDONLY' } };
  const { server } = fuse;

  // Pointer, mount, negotiation, length, descriptor, operations, depth: in this order.
  t.is(await apart.ioctlErrno(PASSTHROUGH_OPEN, 'null', { device }), 'EFAULT', 'pointer before mount');
  t.is(await off.server.ioctlErrno(PASSTHROUGH_OPEN, 'null'), 'EFAULT', 'pointer before negotiation');
  t.is(await apart.ioctlErrno(PASSTHROUGH_OPEN, map(-1, 1), { device }), 'EINVAL', 'mount before descriptor');
  t.is(await off.server.ioctlErrno(PASSTHROUGH_OPEN, map(-1, 1)), 'EPERM', 'negotiation before length');
  t.is(await off.server.ioctlErrno(PASSTHROUGH_OPEN, map(-1)), 'EPERM', 'negotiation before descriptor');
  t.is(await server.ioctlErrno(PASSTHROUGH_OPEN, map(-1, 1)), 'EINVAL', 'length before descriptor');
  t.is(
    await server.ioctlErrno(PASSTHROUGH_OPEN, map(-1, 1), directory),
    'EINVAL',
    'length before operations',
  );
  t.is(await server.ioctlErrno(PASSTHROUGH_OPEN, map(-1), procFile), 'EBADF', 'operations before depth');
});

guestTest('the elements behind `vec` are never read', async (t, guest) => {
  needsSingleUseIds(guest);
  await using fuse = await guest.mountFuse();
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'x' });
  const file = { path: fuse.backing('f'), flags: 'O_RDWR' };
  for (const padding of [1, 0x1000, 2 ** 47]) t.is(await fuse.server.registerErrno(file, { padding }), 'ok');
});

guestTest('the lowest free id is given out next, also one that was used up', async (t, guest) => {
  needsSingleUseIds(guest);
  await using fuse = await guest.mountFuse({ passthrough: 'off' });
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'x' });
  const file = { path: fuse.backing('f'), flags: 'O_RDWR' };
  const next = (): Promise<number> => fuse.server.registerBacking(file);

  t.deepEqual([await next(), await next(), await next()], [1, 2, 3]);
  const fd = await openWithId(guest, client, { fuse, id: 2 });
  t.is(await next(), 2, 'while the file that took it is open');
  await client.close({ fd });
  t.is(await next(), 4, 'its close frees no id');
  for (const id of [3, 1]) t.is(await forgetId(guest, client, { fuse, id }), 'ok');
  t.deepEqual([await next(), await next(), await next()], [1, 3, 5]);
});

guestTest('a file that only reads, of whatever depth, is refused with EBADF', async (t, guest) => {
  needsSingleUseIds(guest);
  await using fuse = await guest.mountFuse();
  // Neither has both operations that an I/O would be sent to.
  for (const path of ['/dev/kmsg', '/proc/version', '/proc/self/mem']) {
    t.is(await fuse.server.registerErrno({ path, flags: 'O_RDONLY' }), 'EBADF', path);
  }
});

guestTest('what PASSTHROUGH_OPEN refuses it does not hold', async (t, guest) => {
  needsSingleUseIds(guest);
  await using fuse = await guest.mountFuse();
  const directory = { path: await guest.directory('tmpfs'), flags: 'O_RDONLY|O_DIRECTORY' };
  t.is(await fuse.server.registerErrno(directory), 'EBADF');
  t.false(await guest.isBackingBusy('tmpfs'));
});

guestTest('a /dev/fuse descriptor is no lower file, mounted or not', async (t, guest) => {
  needsSingleUseIds(guest);
  await using fuse = await guest.mountFuse();
  await using other = await guest.mountFuse();
  const { deviceFd } = await fuse.server.call('server.info', {});
  const { deviceFd: otherFd } = await other.server.call('server.info', {});
  t.is(await fuse.server.registerErrno({ fd: deviceFd ?? -1 }), 'EBADF', 'its own');
  const foreign = { pid: other.server.pid, fd: otherFd ?? -1 };
  t.is(await fuse.server.registerErrno(foreign), 'EBADF', 'of another connection');
  t.is(await fuse.server.registerErrno({ path: '/dev/fuse', flags: 'O_RDWR' }), 'EBADF', 'not mounted');
});

guestTest('the descriptor is looked up in the table of the process that calls', async (t, guest) => {
  needsSingleUseIds(guest);
  await using fuse = await guest.mountFuse({ passthrough: 'off' });
  await using caller = await guest.client();
  await caller.writeFile({ path: fuse.backing('f'), data: 'served' });
  await caller.writeFile({ path: fuse.backing('mine'), data: 'of the caller' });
  const device = await fuse.server.lendDevice(caller);
  const fd = await caller.open({ path: fuse.backing('mine'), flags: 'O_RDWR' });
  const { ret: id } = await caller.ioctl({ fd: device, request: PASSTHROUGH_OPEN, arg: backingMap(fd) });
  await caller.close({ fd });

  const through = await openWithId(guest, caller, { fuse, id });
  t.is(Buffer.from(await caller.pread({ fd: through, count: 100, offset: 0 })).toString(), 'of the caller');
  await caller.close({ fd: through });
  t.deepEqual(await fuse.dataRequests(), []);
});

guestTest('errors of PASSTHROUGH_OPEN are not told in the kernel log', async (t, guest) => {
  needsSingleUseIds(guest);
  await using fuse = await guest.mountFuse();
  const before = await guest.kernelLog();
  t.is(await fuse.server.registerErrno({ fd: -1 }), 'EBADF');
  t.is(await fuse.server.registerErrno({ path: fuse.root, flags: 'O_RDONLY|O_DIRECTORY' }), 'EBADF');
  t.is(await fuse.server.registerErrno({ path: '/proc/version', flags: 'O_RDONLY' }), 'EBADF');
  t.is((await guest.kernelLog()).length, before.length, 'the 2021 series printed each at error level');
});
