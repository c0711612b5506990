import { text } from '../lib/bytes.ts';
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
    await guest.run(['sh', '-c', 'echo 3 >/proc/sys/vm/drop_caches']);
    t.is(text(await client.pread({ fd, count: 7, offset: 0 })), 'WRITTEN', 'with empty caches');
    t.deepEqual(await fuse.dataRequests(), []);
    await client.close({ fd });
  },
);
