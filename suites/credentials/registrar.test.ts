import { bytes, pattern, text } from '../lib/bytes.ts';
import type { BatchCall, Client, Stat } from '../lib/client.ts';
import { backingMap, DeviceIoctl } from '../lib/fuse-abi.ts';
import type { FuseMount } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';
import { needsMappings, openWithId } from '../lib/registration.ts';

const STRANGER = 1000;
const SHARED = { length: 4096, prot: 'PROT_READ|PROT_WRITE', flags: 'MAP_SHARED' } as const;

/** A client of no privilege; `f` is open to it through FUSE, and nothing of the backing tree is. */
async function strangerWithFile(
  guest: TestGuest,
  fuse: FuseMount,
): Promise<{ stranger: Client; fd: number; root: Client }> {
  const root = await guest.client();
  const stranger = await guest.client();
  await root.writeFile({ path: fuse.backing('f'), data: 'secret', mode: 0o600 });
  const fd = await stranger.open({ path: fuse.file('f'), flags: 'O_RDWR' });
  await stranger.setCredentials({ uid: STRANGER, gid: STRANGER });
  return { stranger, fd, root };
}

guestTest('who has the FUSE file open needs no rights on the backing file', async (t, guest) => {
  await using fuse = await guest.mountFuse({ allowOther: true });
  const { stranger, fd, root } = await strangerWithFile(guest, fuse);
  await using _one = stranger;
  await using _other = root;
  const native = { path: fuse.backing('f'), flags: 'O_RDONLY' };
  t.not(await stranger.errno.open(native), 'ok', 'the backing file itself is closed to the client');

  t.is(text(await stranger.pread({ fd, count: 100, offset: 0 })), 'secret', 'read');
  t.is(await stranger.pwrite({ fd, data: 'SECRET', offset: 0 }), 6, 'write');
  const data = bytes('aio');
  const [written] = await stranger.aio({ operations: [{ op: 'pwrite', fd, data, offset: 0 }] });
  t.is(written?.result, 3, 'AIO');
  const [fdIn, end] = await stranger.pipe({});
  await stranger.write({ fd: end, data: 'S' });
  t.is(await stranger.splice({ fdIn, fdOut: fd, offOut: 0, length: 1 }), 1, 'splice');
  if (guest.expected.mapsBackingFile) {
    const map = await stranger.mmap({ fd, ...SHARED });
    t.is(text(await stranger.mread({ map, offset: 0, length: 6 })), 'SioRET', 'mmap');
    await stranger.munmap({ map });
  }
  await stranger.close({ fd });
  t.is(text(await root.readFile({ path: fuse.backing('f') })), 'SioRET');
  t.deepEqual(await fuse.dataRequests(), []);
});

const data = pattern(10);

/** Calls on one passthrough descriptor; some of them fail. */
function everyKindOfIo(fd: number): Readonly<Record<string, BatchCall>> {
  return {
    read: { call: 'pread', args: { fd, count: 10, offset: 0 } },
    write: { call: 'pwrite', args: { fd, data, offset: 0 } },
    'read at a bad offset': { call: 'pread', args: { fd, count: 10, offset: -1 } },
    'write at a bad offset': { call: 'pwrite', args: { fd, data, offset: -1 } },
    'AIO read': { call: 'aio', args: { operations: [{ op: 'pread', fd, count: 10, offset: 0 }] } },
    'AIO write': { call: 'aio', args: { operations: [{ op: 'pwrite', fd, data, offset: 0 }] } },
    'AIO at a bad offset': {
      call: 'aio',
      args: { operations: [{ op: 'pread', fd, count: 10, offset: -1 }] },
    },
    mmap: { call: 'mmap', args: { fd, ...SHARED } },
    'mmap at a bad offset': { call: 'mmap', args: { fd, ...SHARED, offset: 100 } },
    'write that is too large': { call: 'pwrite', args: { fd, data, offset: 2 ** 50 } },
    truncation: { call: 'ftruncate', args: { fd, length: 20 } },
    fsync: { call: 'fsync', args: { fd } },
  };
}

guestTest('after every kind of I/O, also one that fails, the client is who it was', async (t, guest) => {
  await using fuse = await guest.mountFuse({ allowOther: true });
  const { stranger, fd, root } = await strangerWithFile(guest, fuse);
  await using _one = stranger;
  await using _other = root;
  const closed = { path: fuse.backing('f'), flags: 'O_RDONLY' };
  const asBefore = await stranger.errno.open(closed);
  t.not(asBefore, 'ok');
  for (const [what, call] of Object.entries(everyKindOfIo(fd))) {
    // By the thread that made the call: it is the one whose rights were exchanged for a while. Whose a memfd is
    // that it makes then are the rights it really has; /proc tells those from before the exchange.
    const probes: BatchCall[] = [
      { call: 'open', args: closed },
      { call: 'memfd_create', args: { name: 'whose' } },
      { call: 'fstat', args: { fd: { ref: { of: 2 } } } },
    ];
    const results = await stranger.batch({ calls: [call, ...probes], oneThread: true });
    t.deepEqual(results[1], { errno: asBefore }, `after ${what}: what is closed to the client`);
    const stat = results[3];
    if (stat === undefined || 'errno' in stat) throw new Error(`fstat of a memfd: ${JSON.stringify(stat)}`);
    const { uid, gid } = stat.value as Stat;
    t.deepEqual({ uid, gid }, { uid: STRANGER, gid: STRANGER }, `after ${what}: whose files it makes`);
  }
  await stranger.close({ fd });
});

/** Registers a file through the server's device as somebody who is not root. */
async function registerAs(registrar: Client, fuse: FuseMount, path: string): Promise<number> {
  const device = await fuse.server.lendDevice(registrar);
  const fd = await registrar.open({ path, flags: 'O_RDWR' });
  await registrar.setCredentials({ uid: STRANGER, gid: STRANGER });
  const { ret } = await registrar.ioctl({
    fd: device,
    request: DeviceIoctl.BACKING_OPEN,
    arg: backingMap(fd),
  });
  return ret;
}

guestTest('the capabilities of who registered count, not those of who writes', async (t, guest) => {
  guest.needs(guest.expected.unprivileged === 'ok', 'registering without CAP_SYS_ADMIN');
  await using fuse = await guest.mountFuse({ passthrough: 'off' });
  await using root = await guest.client();
  await using registrar = await guest.client();
  await root.writeFile({ path: fuse.backing('f'), data: 'program' });
  await root.chmod({ path: fuse.backing('f'), mode: 0o6755 });
  const id = await registerAs(registrar, fuse, fuse.backing('f'));
  const fd = await openWithId(guest, root, { fuse, id });
  // root has CAP_FSETID and would leave the bits; who registered has not.
  await root.pwrite({ fd, data: 'P', offset: 0 });
  await root.close({ fd });
  t.is((await root.stat({ path: fuse.backing('f') })).mode & 0o7777, 0o755);
  t.deepEqual(await fuse.dataRequests(), []);
});

guestTest(
  'with a privileged registrar a stranger’s write leaves the bits of the backing file',
  async (t, guest) => {
    guest.needs(
      !guest.expected.removesPrivileges,
      'writes without removal of privileges: see privileges (A42)',
    );
    await using fuse = await guest.mountFuse({ allowOther: true });
    const { stranger, fd, root } = await strangerWithFile(guest, fuse);
    await using _one = stranger;
    await using _other = root;
    await root.chmod({ path: fuse.backing('f'), mode: 0o6777 });
    t.is(await stranger.pwrite({ fd, data: 'x', offset: 0 }), 1);
    await stranger.close({ fd });
    t.is((await root.stat({ path: fuse.backing('f') })).mode & 0o7777, 0o6777);
  },
);

guestTest('RLIMIT_FSIZE is that of who writes', async (t, guest) => {
  await using fuse = await guest.mountFuse();
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: pattern(50) });
  const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
  await client.signal({ signal: 'SIGXFSZ', disposition: 'ignore' });
  await client.setrlimit({ resource: 'RLIMIT_FSIZE', soft: 100 });
  t.is(await client.pwrite({ fd, data: pattern(100), offset: 50 }), 50, 'up to the limit');
  t.is(await client.errno.pwrite({ fd, data: 'x', offset: 100 }), 'EFBIG');
  await client.close({ fd });
  t.is((await client.stat({ path: fuse.backing('f') })).size, 100);
  t.deepEqual(await fuse.dataRequests(), []);
});

guestTest('a mapping made with the registrar’s rights is the client’s to use', async (t, guest) => {
  needsMappings(guest);
  await using fuse = await guest.mountFuse({ allowOther: true });
  const { stranger, fd, root } = await strangerWithFile(guest, fuse);
  await using _one = stranger;
  await using _other = root;
  const map = await stranger.mmap({ fd, ...SHARED });
  await stranger.mwrite({ map, offset: 0, data: 'STORED' });
  await stranger.close({ fd });
  t.is(text(await stranger.mread({ map, offset: 0, length: 6 })), 'STORED', 'after close');
  await stranger.munmap({ map });
  t.is(text(await root.readFile({ path: fuse.backing('f') })), 'STORED');
  t.deepEqual(await fuse.dataRequests(), []);
});
