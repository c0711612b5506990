import { pattern, text } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import type { FuseMount } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';
import { needsMappings, needsSingleUseIds, openWithId } from '../lib/registration.ts';

const PAGE = 4096;
const SHARED = { length: PAGE, prot: 'PROT_READ|PROT_WRITE', flags: 'MAP_SHARED' } as const;
const READ_SHARED = { ...SHARED, prot: 'PROT_READ' } as const;

/** Opens `f` read-write through FUSE, on a lower file that the server has opened with those flags. */
async function openOver(
  guest: TestGuest,
  client: Client,
  { fuse, lower }: { readonly fuse: FuseMount; readonly lower: string },
): Promise<number> {
  await client.writeFile({ path: fuse.backing('f'), data: pattern(PAGE) });
  const id = await fuse.server.registerBacking({ path: fuse.backing('f'), flags: lower });
  return openWithId(guest, client, { fuse, id });
}

async function spliceErrno(client: Client, fdOut: number): Promise<string> {
  const [fdIn, end] = await client.pipe({});
  await client.write({ fd: end, data: 'x' });
  const errno = await client.errno.splice({ fdIn, fdOut, length: 1 });
  for (const fd of [fdIn, end]) await client.close({ fd });
  return errno;
}

async function aioResult(
  client: Client,
  operation: { op: 'pwrite'; fd: number; data: Uint8Array } | { op: 'pread'; fd: number; count: number },
): Promise<unknown> {
  const errno = await client.errno.aio({ operations: [{ ...operation, offset: 0 }] });
  if (errno !== 'ok') return errno;
  return (await client.aio({ operations: [{ ...operation, offset: 0 }] }))[0]?.result;
}

guestTest('no way to write reaches a lower file that was opened read-only', async (t, guest) => {
  needsSingleUseIds(guest);
  await using fuse = await guest.mountFuse({ passthrough: 'off' });
  await using client = await guest.client();
  const fd = await openOver(guest, client, { fuse, lower: 'O_RDONLY' });

  t.is((await client.pread({ fd, count: PAGE, offset: 0 })).length, PAGE, 'it is read');
  t.is(await client.errno.pwrite({ fd, data: 'x', offset: 0 }), 'EBADF', 'write');
  t.is(await client.errno.writev({ fd, chunks: [pattern(1)] }), 'EBADF', 'writev');
  t.is(await aioResult(client, { op: 'pwrite', fd, data: pattern(1) }), 'EBADF', 'AIO');
  t.is(await spliceErrno(client, fd), 'EBADF', 'splice');
  await client.close({ fd });
  t.deepEqual(await client.readFile({ path: fuse.backing('f') }), pattern(PAGE), 'nothing was written');
  t.deepEqual(await fuse.dataRequests(), []);
});

guestTest('a lower file opened read-only is not mapped shared and writable', async (t, guest) => {
  needsSingleUseIds(guest);
  needsMappings(guest);
  await using fuse = await guest.mountFuse({ passthrough: 'off' });
  await using client = await guest.client();
  const fd = await openOver(guest, client, { fuse, lower: 'O_RDONLY' });
  t.is(await client.errno.mmap({ fd, ...SHARED }), 'EACCES', 'shared and writable');

  const map = await client.mmap({ fd, ...READ_SHARED });
  t.deepEqual(await client.mread({ map, offset: 0, length: 10 }), pattern(10));
  t.is(await client.errno.mprotect({ map, prot: SHARED.prot }), 'EACCES', 'it does not become writable');
  const store = client.mwrite({ map, offset: 0, data: 'x' }).catch(() => undefined);
  t.is((await client.exited()).signal, 'SIGSEGV', 'a store into the readable one');
  await store;
  await using other = await guest.client();
  t.deepEqual(await other.readFile({ path: fuse.backing('f') }), pattern(PAGE));
});

guestTest(
  'a lower file that may only grow is mapped shared by none that may write to it',
  async (t, guest) => {
    needsSingleUseIds(guest);
    needsMappings(guest);
    await using fuse = await guest.mountFuse({ passthrough: 'off' });
    await using client = await guest.client();
    const writable = await openOver(guest, client, { fuse, lower: 'O_RDWR' });
    const readable = await openOver(guest, client, { fuse, lower: 'O_RDONLY' });
    const native = await client.open({ path: fuse.backing('f'), flags: 'O_RDWR' });
    await guest.run(['chattr', '+a', fuse.backing('f')]);
    try {
      for (const [what, fd] of Object.entries({ native, writable })) {
        t.is(await client.errno.mmap({ fd, ...SHARED }), 'EACCES', `${what}: to be written`);
        t.is(await client.errno.mmap({ fd, ...READ_SHARED }), 'EACCES', `${what}: to be read, for now`);
        t.is(await client.errno.mmap({ fd, ...SHARED, flags: 'MAP_PRIVATE' }), 'ok', `${what}: private`);
      }
      t.is(await client.errno.mmap({ fd: readable, ...READ_SHARED }), 'ok', 'a lower file opened read-only');
    } finally {
      await guest.run(['chattr', '-a', fuse.backing('f')]);
    }
    t.deepEqual(await fuse.dataRequests(), []);
  },
);

guestTest('a private mapping of a lower file opened read-only may be written', async (t, guest) => {
  needsSingleUseIds(guest);
  needsMappings(guest);
  await using fuse = await guest.mountFuse({ passthrough: 'off' });
  await using client = await guest.client();
  const fd = await openOver(guest, client, { fuse, lower: 'O_RDONLY' });
  const map = await client.mmap({ fd, ...SHARED, flags: 'MAP_PRIVATE' });
  await client.mwrite({ map, offset: 0, data: 'private' });
  t.is(text(await client.mread({ map, offset: 0, length: 7 })), 'private');
  await client.munmap({ map });
  await client.close({ fd });
  t.deepEqual(await client.readFile({ path: fuse.backing('f') }), pattern(PAGE));
});

guestTest('no way to read reaches a lower file that was opened write-only', async (t, guest) => {
  needsSingleUseIds(guest);
  await using fuse = await guest.mountFuse({ passthrough: 'off' });
  await using client = await guest.client();
  const fd = await openOver(guest, client, { fuse, lower: 'O_WRONLY' });
  t.is(await client.errno.pread({ fd, count: 1, offset: 0 }), 'EBADF', 'read');
  t.is(await aioResult(client, { op: 'pread', fd, count: 1 }), 'EBADF', 'AIO');
  if (guest.expected.mapsBackingFile) {
    t.is(await client.errno.mmap({ fd, ...READ_SHARED }), 'EACCES', 'mmap');
    t.is(await client.errno.mmap({ fd, ...SHARED, flags: 'MAP_PRIVATE' }), 'EACCES', 'private mmap');
  }
  t.is(await client.pwrite({ fd, data: 'written', offset: 0 }), 7, 'it is written');
  await client.close({ fd });
  t.is(text((await client.readFile({ path: fuse.backing('f') })).subarray(0, 7)), 'written');
  t.deepEqual(await fuse.dataRequests(), []);
});

guestTest('O_APPEND of the lower file counts for every write through FUSE', async (t, guest) => {
  needsSingleUseIds(guest);
  await using fuse = await guest.mountFuse({ passthrough: 'off' });
  await using client = await guest.client();
  const fd = await openOver(guest, client, { fuse, lower: 'O_RDWR|O_APPEND' });
  t.is(await client.pwrite({ fd, data: 'one', offset: 0 }), 3);
  const data = pattern(3);
  await client.aio({ operations: [{ op: 'pwrite', fd, data, offset: 0 }] });
  t.is((await client.fstat({ fd })).size, PAGE + 6);
  await client.close({ fd });
  const seen = await client.readFile({ path: fuse.backing('f') });
  t.deepEqual(seen.subarray(0, PAGE), pattern(PAGE), 'what was there is as it was');
  t.is(text(seen.subarray(PAGE, PAGE + 3)), 'one');
});

guestTest('O_DIRECT of the lower file counts for synchronous I/O through FUSE', async (t, guest) => {
  needsSingleUseIds(guest);
  await using fuse = await guest.mountFuse({ passthrough: 'off' });
  await using client = await guest.client();
  const fd = await openOver(guest, client, { fuse, lower: 'O_RDWR|O_DIRECT' });
  t.is(await client.errno.pread({ fd, count: 100, offset: 3 }), 'EINVAL', 'unaligned');
  t.deepEqual(await client.pread({ fd, count: PAGE, offset: 0 }), pattern(PAGE), 'aligned');
  await client.close({ fd });
});

guestTest(
  'what the opener did not ask for it does not get, however the lower file is open',
  async (t, guest) => {
    needsSingleUseIds(guest);
    await using fuse = await guest.mountFuse({ passthrough: 'off' });
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'x' });
    const from = { path: fuse.backing('f'), flags: 'O_RDWR' };
    const open = async (flags: string): Promise<number> =>
      openWithId(guest, client, { fuse, id: await fuse.server.registerBacking(from), flags });
    const [reader, writer] = [await open('O_RDONLY'), await open('O_WRONLY')];
    t.is(await client.errno.pwrite({ fd: reader, data: 'y', offset: 0 }), 'EBADF');
    t.is(await client.errno.pread({ fd: writer, count: 1, offset: 0 }), 'EBADF');
    t.is(await client.errno.mmap({ fd: reader, ...SHARED }), 'EACCES');
    for (const fd of [reader, writer]) await client.close({ fd });
    t.is(text(await client.readFile({ path: fuse.backing('f') })), 'x');
  },
);
