import { text } from '../lib/bytes.ts';
import { DeviceIoctl } from '../lib/fuse-abi.ts';
import type { FuseMount } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';

/** FUSE_DEV_IOC_CLONE, beside which registering is numbered: what else may be put where a FUSE device belongs. */

const { CLONE } = DeviceIoctl;

const descriptor = (fd: number): Uint8Array => new Uint8Array(Int32Array.of(fd).buffer);

/** The descriptor of the mount's device, as its server's own calls take it. */
async function mountedDevice({ server }: FuseMount): Promise<Uint8Array> {
  const { deviceFd } = await server.call('server.info', {});
  if (deviceFd === null) throw new Error('the server has no device');
  return descriptor(deviceFd);
}

guestTest('a device becomes a clone of nothing but a device with a connection', async (t, guest) => {
  await using fuse = await guest.mountFuse();
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'x' });
  const { server } = fuse;
  const { device } = await server.openDevice();

  for (const fd of [-1, 9999]) {
    t.is(await server.ioctlErrno(CLONE, descriptor(fd), { device }), 'EINVAL', `descriptor ${fd}`);
  }
  for (const path of [fuse.backing('f'), fuse.root, '/dev/null']) {
    const fdFrom = { path, flags: 'O_RDONLY' };
    t.is(await server.ioctlErrno(CLONE, descriptor(0), { device, fdFrom }), 'EINVAL', path);
  }
  const fresh = { path: '/dev/fuse', flags: 'O_RDWR' };
  const refused = await server.ioctlErrno(CLONE, descriptor(0), { device, fdFrom: fresh });
  // EPERM since Linux 6.18, where a device without a connection may still get one by other means.
  t.regex(refused, /^(EINVAL|EPERM)$/, 'a device without a connection');
  for (const arg of ['null', 'bad-pointer'] as const) {
    t.is(await server.ioctlErrno(CLONE, arg, { device }), 'EFAULT', arg);
  }
  t.is(await server.ioctlErrno(CLONE, await mountedDevice(fuse), { device }), 'ok', 'it is as good as new');
});

guestTest('a device has one connection, once and for all', async (t, guest) => {
  await using fuse = await guest.mountFuse();
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'backing' });
  const { server } = fuse;
  const mounted = await mountedDevice(fuse);
  const { device } = await server.cloneDevice();

  t.is(await server.ioctlErrno(CLONE, mounted, { device: 0 }), 'EINVAL', 'the device itself');
  t.is(await server.ioctlErrno(CLONE, mounted, { device }), 'EINVAL', 'a clone, once more');
  t.is(
    await server.registerErrno({ path: fuse.backing('f'), flags: 'O_RDWR' }, { device }),
    'ok',
    'it is one',
  );
  t.is(text(await client.readFile({ path: fuse.file('f') })), 'backing');
});

guestTest(
  'a request that a closed device had read ends with it, and the connection goes on (H3)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse();
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'backing' });
    const { device, fd } = await fuse.server.cloneDevice();
    // Read by another process than the server: nobody will answer.
    const thief = await guest.client();
    const stolen = await thief.adoptFd({ pid: fuse.server.pid, fd });
    await fuse.server.closeDevice(device);
    // A read that waits, as those of the server do not.
    await thief.fcntl({ fd: stolen, cmd: 'F_SETFL', arg: 0 });
    await fuse.server.kill('SIGSTOP');
    const opening = client.errno.open({ path: fuse.file('f'), flags: 'O_RDWR' });
    const request = await thief.read({ fd: stolen, count: 2 << 20 });
    t.true(request.length > 40, 'it has a request');
    await thief.close({ fd: stolen });
    t.is(await opening, 'ECONNABORTED');
    await thief[Symbol.asyncDispose]();
    await fuse.server.kill('SIGCONT');
    t.is(text(await client.readFile({ path: fuse.file('f') })), 'backing', 'by the device that is left');
  },
);

guestTest('a connection that had a cloned device ends with its server (H2)', async (t, guest) => {
  await using fuse = await guest.mountFuse();
  await using client = await guest.client();
  await fuse.server.cloneDevice();
  await fuse.server.kill();
  t.is(await client.errno.stat({ path: fuse.file('f') }), 'ENOTCONN');
});

guestTest('a device of another user namespace is not cloned (B5)', async (t, guest) => {
  guest.needs(guest.expected.abi === 'fd', 'look at user namespaces in CLONE, which later kernels have not');
  const launcher = ['unshare', '--user', '--map-root-user', '--mount'];
  await using inside = await guest.server({ launcher });
  await using fuse = await guest.mountFuse({ server: inside, passthrough: 'off' });
  await using outside = await guest.server();
  const { device } = await outside.openDevice();
  const { deviceFd } = await fuse.server.call('server.info', {});
  const fdFrom = { pid: inside.pid, fd: deviceFd ?? -1 };
  t.is(await outside.ioctlErrno(CLONE, descriptor(0), { device, fdFrom }), 'EINVAL', 'from outside');
  const { device: another } = await inside.openDevice();
  t.is(await inside.ioctlErrno(CLONE, await mountedDevice(fuse), { device: another }), 'ok', 'inside');
});

guestTest('the channel of a device server is no device of FUSE that can be cloned', async (t, guest) => {
  await using client = await guest.client();
  guest.needsBuilt((await client.errno.stat({ path: '/dev/cuse' })) === 'ok', 'CUSE');
  const channel = await client.open({ path: '/dev/cuse', flags: 'O_RDWR' });
  const device = await client.open({ path: '/dev/fuse', flags: 'O_RDWR|O_NONBLOCK' });
  for (const [what, fd, from, errno] of [
    ['a device, of a channel', device, channel, 'EINVAL'],
    ['a channel, of a device', channel, device, 'ENOTTY'],
    ['a channel, of itself', channel, channel, 'ENOTTY'],
  ] as const) {
    t.is(await client.errno.ioctl({ fd, request: CLONE, arg: descriptor(from) }), errno, what);
  }
  t.is(await client.poll({ fd: device }), 'err', 'the device has no connection');
  for (const fd of [channel, device]) await client.close({ fd });
});
