import { backingMap, DeviceIoctl } from '../lib/fuse-abi.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';
import { WITHOUT_PASSTHROUGH } from '../lib/registration.ts';

const { BACKING_CLOSE, BACKING_OPEN } = DeviceIoctl;

/** The argument of BACKING_CLOSE: a signed 32-bit id. */
function idArgument(id: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setInt32(0, id, true);
  return bytes;
}

function needsClose(guest: TestGuest): void {
  guest.needs(guest.expected.hasClose, 'BACKING_CLOSE');
}

guestTest('BACKING_CLOSE before any mount gives EPERM, whatever the argument (B1)', async (t, guest) => {
  needsClose(guest);
  await using server = await guest.server();
  const { device } = await server.openDevice();
  for (const arg of [idArgument(1), idArgument(0), 'null', 'bad-pointer'] as const) {
    const what = typeof arg === 'string' ? arg : `id ${arg[0] ?? ''}`;
    t.is(await server.ioctlErrno(BACKING_CLOSE, arg, { device }), 'EPERM', what);
  }
});

guestTest(
  'BACKING_CLOSE reads its argument before it asks for rights or negotiation (B9)',
  async (t, guest) => {
    needsClose(guest);
    await using fuse = await guest.mountFuse({ passthrough: 'off', init: WITHOUT_PASSTHROUGH });
    t.is(await fuse.server.ioctlErrno(BACKING_CLOSE, 'null'), 'EFAULT');
    t.is(await fuse.server.ioctlErrno(BACKING_CLOSE, 'bad-pointer'), 'EFAULT');
  },
);

guestTest('BACKING_CLOSE with an argument that cannot be read gives EFAULT (B9)', async (t, guest) => {
  needsClose(guest);
  await using fuse = await guest.mountFuse();
  t.is(await fuse.server.ioctlErrno(BACKING_CLOSE, 'null'), 'EFAULT');
  t.is(await fuse.server.ioctlErrno(BACKING_CLOSE, 'bad-pointer'), 'EFAULT');
});

guestTest('BACKING_CLOSE without negotiated passthrough gives EPERM for every id (B2)', async (t, guest) => {
  needsClose(guest);
  await using fuse = await guest.mountFuse({ passthrough: 'off', init: WITHOUT_PASSTHROUGH });
  for (const id of [1, 0, -1, 0x7fff_ffff]) t.is(await fuse.server.closeBacking(id), 'EPERM', `id ${id}`);
});

guestTest('BACKING_CLOSE before the answer to INIT gives EPERM', async (t, guest) => {
  needsClose(guest);
  const holdInit = { match: { opcode: 'INIT' }, action: { do: 'hold' } } as const;
  await using fuse = await guest.mountFuse({ waitForInit: false, rules: [holdInit] });
  const init = await fuse.waitFor('INIT', 'held');
  t.is(await fuse.server.closeBacking(1), 'EPERM');
  await fuse.server.call('held.release', { seq: init.seq });
  t.is(await fuse.server.closeBacking(1), 'ENOENT');
});

guestTest('BACKING_CLOSE of ids that cannot be gives EINVAL (B13)', async (t, guest) => {
  needsClose(guest);
  await using fuse = await guest.mountFuse();
  for (const id of [0, -1, -0x8000_0000]) t.is(await fuse.server.closeBacking(id), 'EINVAL', `id ${id}`);
});

guestTest('BACKING_CLOSE of ids that nobody has gives ENOENT (B13)', async (t, guest) => {
  needsClose(guest);
  await using fuse = await guest.mountFuse();
  for (const id of [1, 2, 999, 0x7fff_ffff]) t.is(await fuse.server.closeBacking(id), 'ENOENT', `id ${id}`);
});

guestTest('BACKING_CLOSE works once for each id (B13)', async (t, guest) => {
  needsClose(guest);
  await using fuse = await guest.mountFuse();
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'x' });

  const file = { path: fuse.backing('f'), flags: 'O_RDWR' };
  const [first, second] = [await fuse.server.registerBacking(file), await fuse.server.registerBacking(file)];
  t.is(await fuse.server.closeBacking(first), 'ok');
  t.is(await fuse.server.closeBacking(first), 'ENOENT', 'a second time');
  t.is(await fuse.server.closeBacking(second), 'ok', 'the other id is still there');
});

guestTest('BACKING_CLOSE does not reach the ids of another connection (B13)', async (t, guest) => {
  needsClose(guest);
  await using one = await guest.mountFuse();
  await using other = await guest.mountFuse();
  await using client = await guest.client();
  await client.writeFile({ path: one.backing('f'), data: 'x' });

  const id = await one.server.registerBacking({ path: one.backing('f'), flags: 'O_RDWR' });
  t.is(await other.server.closeBacking(id), 'ENOENT');
  t.is(await one.server.closeBacking(id), 'ok', 'it was not touched');
});

guestTest(
  'BACKING_CLOSE without CAP_SYS_ADMIN gives EPERM before the id is looked at (B5)',
  async (t, guest) => {
    needsClose(guest);
    await using fuse = await guest.mountFuse();
    await using owner = await guest.client();
    await using limited = await guest.client({ launcher: ['setpriv', '--bounding-set', '-sys_admin'] });
    await owner.writeFile({ path: fuse.backing('f'), data: 'x' });
    const id = await fuse.server.registerBacking({ path: fuse.backing('f'), flags: 'O_RDWR' });
    const fd = await fuse.server.lendDevice(limited);

    for (const wrong of [id, 0, -1, 999]) {
      const errno = await limited.errno.ioctl({ fd, request: BACKING_CLOSE, arg: idArgument(wrong) });
      t.is(errno, 'EPERM', `id ${wrong}`);
    }
    t.is(
      await limited.errno.ioctl({ fd, request: BACKING_CLOSE, arg: 16 }),
      'EFAULT',
      'the pointer comes first',
    );
    t.is(await fuse.server.closeBacking(id), 'ok', 'the refusals changed nothing');
  },
);

guestTest('BACKING_CLOSE by root of another user namespace gives EPERM (B5)', async (t, guest) => {
  needsClose(guest);
  // Mounted in that namespace and negotiated there: nothing but the capability is missing.
  await using server = await guest.server({ launcher: ['unshare', '--user', '--map-root-user', '--mount'] });
  await using fuse = await guest.mountFuse({ server, passthrough: 'off' });
  await using root = await guest.client();
  await root.writeFile({ path: fuse.backing('f'), data: 'x' });
  t.true(fuse.init?.passthrough, 'passthrough was offered and accepted');
  const device = await server.lendDevice(root);
  const fd = await root.open({ path: fuse.backing('f'), flags: 'O_RDWR' });
  const { ret: id } = await root.ioctl({ fd: device, request: BACKING_OPEN, arg: backingMap(fd) });
  for (const each of [id, 0, 999]) t.is(await server.closeBacking(each), 'EPERM', `id ${each}`);
  const arg = idArgument(id);
  t.is(await root.errno.ioctl({ fd: device, request: BACKING_CLOSE, arg }), 'ok', 'root of the machine may');
  for (const each of [fd, device]) await root.close({ fd: each });
});

guestTest('requests that are almost BACKING_CLOSE are told apart from it (B15)', async (t, guest) => {
  needsClose(guest);
  await using fuse = await guest.mountFuse();
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'x' });
  const id = await fuse.server.registerBacking({ path: fuse.backing('f'), flags: 'O_RDWR' });

  const almost = {
    'eight bytes': 0x4008_e502,
    'no size': 0x0000_e502,
    'read instead of write': 0x8004_e502,
    'foreign magic': 0x4004_e402,
    'unknown number': 0x4004_e57f,
  };
  for (const [what, request] of Object.entries(almost)) {
    t.is(await fuse.server.ioctlErrno(request, idArgument(id)), 'ENOTTY', what);
  }
  t.is(await fuse.server.closeBacking(id), 'ok', 'none of them closed it');
});

guestTest('/dev/cuse refuses BACKING_OPEN and BACKING_CLOSE (B23)', async (t, guest) => {
  await using client = await guest.client();
  guest.needsBuilt((await client.errno.stat({ path: '/dev/cuse' })) === 'ok', 'CUSE');
  const path = `${await guest.directory('ext4')}/f`;
  await client.writeFile({ path, data: 'x' });
  const file = await client.open({ path, flags: 'O_RDWR' });

  const fd = await client.open({ path: '/dev/cuse', flags: 'O_RDWR' });
  t.is(await client.errno.ioctl({ fd, request: BACKING_OPEN, arg: backingMap(file) }), 'ENOTTY');
  t.is(await client.errno.ioctl({ fd, request: BACKING_CLOSE, arg: idArgument(1) }), 'ENOTTY');
  await client.close({ fd });
});
