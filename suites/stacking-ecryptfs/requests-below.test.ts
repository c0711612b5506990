import { bytes, firstDifference, pattern, text } from '../lib/bytes.ts';
import { dropCaches } from '../lib/drop-caches.ts';
import { ecryptfsOnFuse } from '../lib/ecryptfs-on-fuse.ts';
import { FATTR_FH } from '../lib/fuse-abi.ts';
import { guestTest } from '../lib/guest-test.ts';
import { writesAndSyncs } from '../lib/writes-and-syncs.ts';

/** What ecryptfs asks of a plain FUSE server that has its lower files. */

const PAGE = 4096;
const LONG_AGO_NS = 1_000_000_000;

guestTest('fsync and close on ecryptfs write the pages, and then ask the lower server', async (t, guest) => {
  await using client = await guest.client();
  await using stack = await ecryptfsOnFuse(guest, client);
  const { ecryptfs, fuse } = stack;
  const fd = await client.open({ path: ecryptfs.file('f'), flags: 'O_RDWR|O_CREAT' });
  await client.pwrite({ fd, data: pattern(2 * PAGE), offset: 0 });
  const map = await client.mmap({ fd, length: PAGE, prot: 'PROT_READ|PROT_WRITE', flags: 'MAP_SHARED' });
  const since = async (work: () => Promise<unknown>) => {
    // A store says nothing to the header: what is sent is the page.
    await client.mwrite({ map, offset: 100, data: bytes('stored') });
    return writesAndSyncs(fuse, work);
  };
  t.deepEqual(await since(() => client.fsync({ fd })), ['WRITE', 'FSYNC'], 'fsync');
  t.deepEqual(await since(() => client.fdatasync({ fd })), ['WRITE', 'FDATASYNC'], 'fdatasync');
  const closed = await since(async () => client.close({ fd: await client.dup({ fd }) }));
  t.deepEqual(closed, ['WRITE', 'FLUSH'], 'a close');

  await client.close({ fd });
  await client.mwrite({ map, offset: 100, data: bytes('at the end') });
  const after = await fuse.position();
  await client.munmap({ map });
  await fuse.waitFor({ opcode: 'RELEASE', after });
  const last = await fuse.opcodes({ opcode: ['WRITE', 'RELEASE'], after });
  t.deepEqual(
    last,
    ['WRITE', 'RELEASE'],
    'with the last holder the pages are written and the lower file closed',
  );
});

guestTest('a page that ecryptfs could not write below is told by fsync', async (t, guest) => {
  await using client = await guest.client();
  await using stack = await ecryptfsOnFuse(guest, client);
  const { ecryptfs, fuse } = stack;
  const fd = await client.open({ path: ecryptfs.file('f'), flags: 'O_RDWR|O_CREAT' });
  await client.pwrite({ fd, data: pattern(PAGE), offset: 0 });
  await client.fsync({ fd });
  const map = await client.mmap({ fd, length: PAGE, prot: 'PROT_READ|PROT_WRITE', flags: 'MAP_SHARED' });
  const allow = await fuse.fail('WRITE', 'ENOSPC');
  await client.mwrite({ map, offset: 100, data: bytes('stored') });
  t.is(await client.errno.fsync({ fd }), 'ENOSPC');
  await allow();
  await client.munmap({ map });
  const seen = await client.pread({ fd, count: PAGE, offset: 0 });
  t.is(firstDifference(seen, pattern(PAGE)), undefined, 'and is what it was before');
  await client.close({ fd });
});

guestTest('every open on ecryptfs that ends lets the lower file go (C11)', async (t, guest) => {
  await using client = await guest.client();
  await using stack = await ecryptfsOnFuse(guest, client);
  const { ecryptfs, fuse } = stack;
  await client.writeFile({ path: ecryptfs.file('f'), data: 'contents' });
  for (let round = 0; round < 3; round++) {
    const fd = await client.open({ path: ecryptfs.file('f'), flags: 'O_RDWR' });
    t.is(text(await client.pread({ fd, count: 20, offset: 0 })), 'contents');
    const after = await fuse.position();
    await client.close({ fd });
    await fuse.waitFor({ opcode: 'RELEASE', after });
  }
  t.deepEqual((await fuse.state()).handles, [], 'no open file is left at the server');
});

guestTest(
  'a truncation of an open file on ecryptfs asks the lower server with the handle of the lower file',
  async (t, guest) => {
    await using client = await guest.client();
    await using stack = await ecryptfsOnFuse(guest, client);
    const { ecryptfs, fuse } = stack;
    await client.writeFile({ path: ecryptfs.file('f'), data: pattern(3 * PAGE) });
    const after = await fuse.position();
    const fd = await client.open({ path: ecryptfs.file('f'), flags: 'O_RDWR' });
    const opened = await fuse.waitFor({ opcode: 'OPEN', after });
    await client.ftruncate({ fd, length: PAGE });
    const { args } = await fuse.waitFor({ opcode: 'SETATTR', after });
    t.is(Number(args['valid']) & FATTR_FH, FATTR_FH, 'with a handle');
    t.is(args['fh'], opened.reply?.open?.fh, 'which is the one that was answered to the open');
    await client.close({ fd });
  },
);

guestTest('a lower file that was opened for reading only is not written', async (t, guest) => {
  await using client = await guest.client();
  await using stack = await ecryptfsOnFuse(guest, client);
  const { ecryptfs, fuse } = stack;
  await client.writeFile({ path: ecryptfs.file('f'), data: 'contents' });
  const remount = { source: 'fuse', target: fuse.path, type: 'fuse' } as const;
  await client.mount({ ...remount, flags: 'MS_REMOUNT|MS_RDONLY' });
  const path = ecryptfs.file('f');
  const reader = await client.open({ path, flags: 'O_RDONLY' });
  await client.mount({ ...remount, flags: 'MS_REMOUNT' });
  t.is(await client.errno.open({ path, flags: 'O_RDWR' }), 'EPERM', 'all opens share one lower file');
  t.is(text(await client.pread({ fd: reader, count: 20, offset: 0 })), 'contents');
  await client.close({ fd: reader });
  t.is(await client.errno.open({ path, flags: 'O_RDWR' }), 'ok', 'with a lower file opened anew');
});

guestTest('reading on ecryptfs changes the access time of the lower file', async (t, guest) => {
  await using client = await guest.client();
  const lower = await guest.directory('ext4', 'encrypted');
  await using ecryptfs = await guest.mountEcryptfs({ lower }, client);
  await client.writeFile({ path: ecryptfs.file('f'), data: 'contents' });
  const fd = await client.open({ path: ecryptfs.file('f'), flags: 'O_RDONLY' });
  await client.pread({ fd, count: 20, offset: 0 });
  const [end, into] = await client.pipe({});
  // From the cache: nothing is read from the lower file for it.
  for (const [what, read] of Object.entries({
    read: () => client.pread({ fd, count: 20, offset: 0 }),
    splice: async () => {
      await client.splice({ fdIn: fd, offIn: 0, fdOut: into, length: 8 });
      return client.read({ fd: end, count: 20 });
    },
  })) {
    await client.utimens({ path: `${lower}/f`, atimeNs: LONG_AGO_NS, mtimeNs: null });
    t.is(text(await read()), 'contents', what);
    t.not((await client.stat({ path: `${lower}/f` })).atimeNs, LONG_AGO_NS, what);
  }
  for (const each of [end, into, fd]) await client.close({ fd: each });
});

guestTest(
  'a write to part of a page that is only on the disk keeps the rest of it (E6)',
  async (t, guest) => {
    await using client = await guest.client();
    const lower = await guest.directory('ext4', 'encrypted');
    const end = 3 * PAGE + 100;
    const data = pattern(end + 4);
    {
      await using ecryptfs = await guest.mountEcryptfs({ lower }, client);
      await client.writeFile({ path: ecryptfs.file('f'), data: data.subarray(0, end) });
      t.is(await ecryptfs.unmount(), 'ok');
    }
    await using ecryptfs = await guest.mountEcryptfs({ lower }, client);
    const fd = await client.open({ path: ecryptfs.file('f'), flags: 'O_RDWR' });
    for (const offset of [10, 2 * PAGE - 2, end]) {
      await client.pwrite({ fd, data: 'part', offset });
      data.set(bytes('part'), offset);
    }
    t.is(firstDifference(await client.pread({ fd, count: 4 * PAGE, offset: 0 }), data), undefined);
    await client.close({ fd });
  },
);

/** In the header, behind the size: eight bytes of which one half is made of the other. */
const MARKER_AT = 8;

guestTest('a file without the marker of ecryptfs is not taken for an encrypted one', async (t, guest) => {
  await using client = await guest.client();
  const lower = await guest.directory('ext4', 'encrypted');
  await client.writeFile({ path: `${lower}/plain`, data: pattern(4 * PAGE) });
  {
    await using ecryptfs = await guest.mountEcryptfs({ lower }, client);
    for (const name of ['whole', 'broken']) {
      await client.writeFile({ path: ecryptfs.file(name), data: 'contents' });
    }
    t.is(await ecryptfs.unmount(), 'ok');
  }
  const fd = await client.open({ path: `${lower}/broken`, flags: 'O_RDWR' });
  const [byte = 0] = await client.pread({ fd, count: 1, offset: MARKER_AT });
  await client.pwrite({ fd, data: new Uint8Array([byte ^ 1]), offset: MARKER_AT });
  await client.close({ fd });

  await using ecryptfs = await guest.mountEcryptfs({ lower }, client);
  const opened = async (name: string) => client.errno.open({ path: ecryptfs.file(name), flags: 'O_RDONLY' });
  t.is(await opened('plain'), 'EIO', 'a file that never was one');
  t.is(await opened('broken'), 'EIO', 'one whose marker has a wrong bit');
  t.is(text(await client.readFile({ path: ecryptfs.file('whole') })), 'contents', 'one that is whole');
  const kept = await client.readFile({ path: `${lower}/plain` });
  t.is(firstDifference(kept, pattern(4 * PAGE)), undefined, 'what is refused stays as it is');
});

/** In the header, behind the marker: the highest byte of the flags. ECRYPTFS_FILE_VERSION is 3. */
const VERSION_AT = 16;

guestTest('a file of a newer version of the format than ecryptfs knows is not opened', async (t, guest) => {
  await using client = await guest.client();
  const lower = await guest.directory('ext4', 'encrypted');
  {
    await using ecryptfs = await guest.mountEcryptfs({ lower }, client);
    await client.writeFile({ path: ecryptfs.file('f'), data: 'contents' });
    t.is(await ecryptfs.unmount(), 'ok');
  }
  const opened = async (version: number): Promise<string> => {
    const fd = await client.open({ path: `${lower}/f`, flags: 'O_RDWR' });
    await client.pwrite({ fd, data: new Uint8Array([version]), offset: VERSION_AT });
    await client.close({ fd });
    await using ecryptfs = await guest.mountEcryptfs({ lower }, client);
    return await client.errno.readFile({ path: ecryptfs.file('f') });
  };
  // The others are 3 as well, as far as four and seven bits tell.
  for (const version of [4, 19, 131]) t.is(await opened(version), 'EIO', `version ${version}`);
  t.is(await opened(3), 'ok', 'version 3 again');
});

guestTest(
  'a lower file that cannot be read or written is the error of the call, and only of that call',
  async (t, guest) => {
    await using client = await guest.client();
    await using stack = await ecryptfsOnFuse(guest, client);
    const { ecryptfs, fuse } = stack;
    await client.writeFile({ path: ecryptfs.file('f'), data: pattern(2 * PAGE) });
    t.is(await ecryptfs.unmount(), 'ok');
    await using again = await guest.mountEcryptfs({ lower: fuse.path }, client);
    const fd = await client.open({ path: again.file('f'), flags: 'O_RDWR' });
    await dropCaches(client, 'pages');
    const unreadable = await fuse.fail('READ', 'EIO');
    t.is(await client.errno.pread({ fd, count: PAGE, offset: PAGE }), 'EIO', 'a read');
    await unreadable();
    const seen = await client.pread({ fd, count: PAGE, offset: PAGE });
    t.is(firstDifference(seen, pattern(2 * PAGE).subarray(PAGE)), undefined, 'read when it can be');
    const full = await fuse.fail('WRITE', 'ENOSPC');
    t.is(await client.errno.pwrite({ fd, data: pattern(PAGE, 3), offset: PAGE }), 'ENOSPC', 'a write');
    await full();
    t.is(await client.pwrite({ fd, data: pattern(PAGE, 4), offset: PAGE }), PAGE);
    await client.close({ fd });
    t.is(
      firstDifference((await client.readFile({ path: again.file('f') })).subarray(PAGE), pattern(PAGE, 4)),
      undefined,
    );
  },
);
