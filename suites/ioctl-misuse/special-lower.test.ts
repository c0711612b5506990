import { bytes, text } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import type { FdSource } from '../lib/fuse-abi.ts';
import type { FuseMount } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';
import { needsMappings, needsSingleUseIds, openWithId } from '../lib/registration.ts';

/** The 2021 series takes anything that has both operations as a lower file; nothing bad may come of it. */

async function openOn(
  guest: TestGuest,
  client: Client,
  { fuse, from, flags = 'O_RDWR' }: { fuse: FuseMount; from: FdSource; flags?: string },
): Promise<number> {
  await client.writeFile({ path: fuse.backing('f'), data: 'served' });
  return openWithId(guest, client, { fuse, id: await fuse.server.registerBacking(from), flags });
}

guestTest('/dev/zero as lower file reads as zeros and takes writes', async (t, guest) => {
  needsSingleUseIds(guest);
  await using fuse = await guest.mountFuse({ passthrough: 'off' });
  await using client = await guest.client();
  const fd = await openOn(guest, client, { fuse, from: { path: '/dev/zero', flags: 'O_RDWR' } });
  t.deepEqual(await client.pread({ fd, count: 5000, offset: 100 }), new Uint8Array(5000));
  t.is(await client.pwrite({ fd, data: 'swallowed', offset: 0 }), 9);
  const known = await client.fstat({ fd, flags: 'AT_STATX_DONT_SYNC' });
  t.is(known.size, 6, 'the kernel leaves the size as it was: a device has none');
  t.is((await client.fstat({ fd })).size, 6, 'the size is the server’s');
  await client.close({ fd });
  t.is(text(await client.readFile({ path: fuse.backing('f') })), 'served');
  t.deepEqual(await fuse.dataRequests(), []);
});

guestTest('memory that a mapping of /dev/zero makes belongs to who registered it', async (t, guest) => {
  needsSingleUseIds(guest);
  needsMappings(guest);
  await using fuse = await guest.mountFuse({ passthrough: 'off', allowOther: true });
  await using client = await guest.client();
  const fd = await openOn(guest, client, { fuse, from: { path: '/dev/zero', flags: 'O_RDWR' } });
  await client.setCredentials({ uid: 1000, gid: 1000 });
  await client.mmap({ fd, length: 4096, prot: 'PROT_READ|PROT_WRITE', flags: 'MAP_SHARED' });
  // What is mapped is a file without a name, made by the driver for this mapping alone.
  const script = `for map in /proc/${client.pid}/map_files/*; do
    case $(readlink "$map") in /dev/zero*) stat -L -c %u:%g "$map";; esac; done`;
  const { stdout } = await guest.run(['sh', '-c', script]);
  t.is(stdout, '0:0\n');
});

guestTest('a lower file without mmap gives ENODEV', async (t, guest) => {
  needsSingleUseIds(guest);
  needsMappings(guest);
  await using fuse = await guest.mountFuse({ passthrough: 'off' });
  await using client = await guest.client();
  const fd = await openOn(guest, client, { fuse, from: { path: '/dev/null', flags: 'O_RDWR' } });
  for (const flags of ['MAP_SHARED', 'MAP_PRIVATE']) {
    t.is(await client.errno.mmap({ fd, length: 4096, prot: 'PROT_READ', flags }), 'ENODEV', flags);
  }
  t.is((await client.pread({ fd, count: 10, offset: 0 })).length, 0, '/dev/null is at its end');
  await client.close({ fd });
});

guestTest('a pipe as lower file is read and written, and not spliced', async (t, guest) => {
  needsSingleUseIds(guest);
  await using fuse = await guest.mountFuse({ passthrough: 'off' });
  await using client = await guest.client();
  const [end, start] = await client.pipe({});
  const from = (fd: number): FdSource => ({ pid: client.pid, fd });
  const reader = await openOn(guest, client, { fuse, from: from(end), flags: 'O_RDONLY' });
  const writer = await openOn(guest, client, { fuse, from: from(start), flags: 'O_WRONLY' });
  await client.write({ fd: writer, data: 'through the pipe' });
  t.is(text(await client.read({ fd: reader, count: 100 })), 'through the pipe');

  const [fdIn, other] = await client.pipe({});
  await client.write({ fd: other, data: 'x' });
  t.is(await client.errno.splice({ fdIn, fdOut: writer, length: 1 }), 'EINVAL', 'into it');
  t.is(await client.errno.splice({ fdIn: reader, fdOut: other, length: 1 }), 'EINVAL', 'out of it');
  for (const fd of [end, start, fdIn, other, reader, writer]) await client.close({ fd });
  t.deepEqual(await fuse.dataRequests(), []);
});

guestTest('a socket as lower file is read and written', async (t, guest) => {
  needsSingleUseIds(guest);
  await using fuse = await guest.mountFuse({ passthrough: 'off' });
  await using client = await guest.client();
  const [near, far] = await client.socketpair({});
  const fd = await openOn(guest, client, { fuse, from: { pid: client.pid, fd: near } });
  await client.write({ fd, data: 'there' });
  t.is(text(await client.read({ fd: far, count: 100 })), 'there');
  await client.write({ fd: far, data: 'and back' });
  t.is(text(await client.read({ fd, count: 100 })), 'and back');
  for (const each of [fd, near]) await client.close({ fd: each });
  t.is((await client.read({ fd: far, count: 1 })).length, 0, 'the last close is the end of the stream');
  await client.close({ fd: far });
  t.deepEqual(await fuse.dataRequests(), []);
});

guestTest('asynchronous I/O on /dev/zero completes', async (t, guest) => {
  needsSingleUseIds(guest);
  await using fuse = await guest.mountFuse({ passthrough: 'off' });
  await using client = await guest.client();
  const zero = await openOn(guest, client, { fuse, from: { path: '/dev/zero', flags: 'O_RDWR' } });
  const results = await client.aio({
    operations: [
      { op: 'pread', fd: zero, count: 10, offset: 0 },
      { op: 'pwrite', fd: zero, data: bytes('swallowed'), offset: 0 },
    ],
  });
  t.deepEqual(
    results.map(({ result }) => result),
    [10, 9],
  );
  await client.close({ fd: zero });
  t.deepEqual(await fuse.dataRequests(), []);
});
