import { text } from '../lib/bytes.ts';
import { dropCaches } from '../lib/drop-caches.ts';
import type { FuseMount } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';

guestTest('notifications for a file in passthrough mode leave its data alone (D12)', async (t, guest) => {
  await using fuse = await guest.mountFuse();
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('f'), data: 'backing' });
  const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
  await client.pwrite({ fd, data: 'BACKING', offset: 0 });
  const stored = new Uint8Array(Buffer.from('stored!'));
  t.is(await fuse.notify({ store: '/f', offset: 0, data: stored }), 'ok');
  t.is(text(await client.pread({ fd, count: 7, offset: 0 })), 'BACKING', 'after STORE');
  t.is(await fuse.notify({ inode: '/f', offset: 0, length: 0 }), 'ok');
  t.is(text(await client.pread({ fd, count: 7, offset: 0 })), 'BACKING', 'after INVAL_INODE');
  t.is(text(await client.readFile({ path: fuse.backing('f') })), 'BACKING', 'below');
  t.deepEqual(await fuse.dataRequests(), []);
  await client.close({ fd });
});

/** `fuse_notify_retrieve_out`: the kernel sends what it has cached of a file in a NOTIFY_REPLY. */
function retrieval(nodeid: number, length: number): Uint8Array {
  const body = new Uint8Array(32);
  const view = new DataView(body.buffer);
  view.setBigUint64(0, 1n, true);
  view.setBigUint64(8, BigInt(nodeid), true);
  view.setUint32(24, length, true);
  return body;
}

/** How many bytes from the start of `f` are in the page cache of FUSE. */
async function cachedBytes(fuse: FuseMount, length: number): Promise<number> {
  const nodeid = await fuse.nodeid('/f');
  const after = await fuse.position();
  const errno = await fuse.notify({ code: 'RETRIEVE', body: retrieval(nodeid, length) });
  if (errno !== 'ok') throw new Error(`RETRIEVE: ${errno}`);
  const reply = await fuse.waitFor({ opcode: 'NOTIFY_REPLY', after }, 'arrived');
  return Number(reply.args['size']);
}

guestTest(
  'the page cache of FUSE stays empty under passthrough I/O, and what STORE puts there is not read (D12)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse({ attrValidS: 3600 });
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'backing' });
    const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
    t.is(text(await client.pread({ fd, count: 7, offset: 0 })), 'backing');
    await client.pwrite({ fd, data: 'BACKING', offset: 0 });
    t.is(await cachedBytes(fuse, 7), 0, 'after a read and a write');
    const stored = new Uint8Array(Buffer.from('stored!'));
    t.is(await fuse.notify({ store: '/f', offset: 0, data: stored }), 'ok');
    t.is(await cachedBytes(fuse, 7), 7, 'after STORE');
    t.is(text(await client.pread({ fd, count: 7, offset: 0 })), 'BACKING', 'what a read gives');
    t.is(await fuse.notify({ inode: '/f', offset: 0, length: 0 }), 'ok');
    t.is(await cachedBytes(fuse, 7), 0, 'after INVAL_INODE');
    t.is(text(await client.readFile({ path: fuse.backing('f') })), 'BACKING', 'below');
    t.deepEqual(await fuse.dataRequests(), []);
    await client.close({ fd });
  },
);

guestTest(
  'dropped caches are read again from the backing file, not from the server (D16, D19)',
  async (t, guest) => {
    await using fuse = await guest.mountFuse();
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'backing' });
    const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
    await client.pwrite({ fd, data: 'WRITTEN', offset: 0 });
    t.is(text(await client.readFile({ path: fuse.backing('f') })), 'WRITTEN', 'what the server would read');
    await client.syncfs({ fd: await client.open({ path: fuse.root, flags: 'O_RDONLY|O_DIRECTORY' }) });
    await dropCaches(client, 'all');
    t.is(text(await client.pread({ fd, count: 7, offset: 0 })), 'WRITTEN', 'with empty caches');
    t.deepEqual(await fuse.dataRequests(), []);
    await client.close({ fd });
  },
);
