import { text } from '../lib/bytes.ts';
import { eventually } from '../lib/eventually.ts';
import { guestTest } from '../lib/guest-test.ts';
import { needsMaxStackDepth } from '../lib/stack-depth.ts';

guestTest(
  'ecryptfs is busy while a file of it is open through FUSE, and free after (E21)',
  async (t, guest) => {
    await using client = await guest.client();
    const lower = await guest.directory('ext4', 'encrypted');
    await using ecryptfs = await guest.mountEcryptfs({ lower }, client);
    await using fuse = await guest.mountFuse({ root: ecryptfs.path, init: { maxStackDepth: 2 } });
    await client.writeFile({ path: ecryptfs.file('f'), data: 'below' });

    const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
    t.is(await ecryptfs.unmount(), 'EBUSY', 'while it is open');
    t.is(text(await client.pread({ fd, count: 10, offset: 0 })), 'below');
    await client.close({ fd });
    await fuse.waitFor('RELEASE');
    const errno = await eventually(
      () => ecryptfs.unmount(),
      (answer) => answer === 'ok',
    );
    t.is(errno, 'ok', 'FUSE is still mounted');
    t.deepEqual(await fuse.dataRequests(), []);
  },
);

guestTest('an open file works on after a lazy umount of the ecryptfs below FUSE (E21)', async (t, guest) => {
  await using client = await guest.client();
  const lower = await guest.directory('ext4', 'encrypted');
  await using ecryptfs = await guest.mountEcryptfs({ lower }, client);
  await using fuse = await guest.mountFuse({ root: ecryptfs.path, init: { maxStackDepth: 2 } });
  await client.writeFile({ path: ecryptfs.file('f'), data: 'below' });

  const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
  t.is(await ecryptfs.unmount('MNT_DETACH'), 'ok');
  t.is(
    await client.errno.open({ path: fuse.file('f'), flags: 'O_RDONLY' }),
    'ENOENT',
    'the server lost the tree',
  );
  await client.pwrite({ fd, data: 'still', offset: 0 });
  t.is(text(await client.pread({ fd, count: 10, offset: 0 })), 'still');
  await client.close({ fd });
  await fuse.waitFor('RELEASE');
  t.deepEqual(await fuse.dataRequests(), []);
  await using again = await guest.mountEcryptfs({ lower }, client);
  t.is(text(await client.readFile({ path: again.file('f') })), 'still', 'mounted again');
});

guestTest.alone('ecryptfs works on after a lazy umount of the FUSE below it (E21)', async (t, guest) => {
  needsMaxStackDepth(guest);
  await using client = await guest.client();
  await using fuse = await guest.mountFuse({ init: { maxStackDepth: 1 } });
  await using ecryptfs = await guest.mountEcryptfs({ lower: fuse.path }, client);

  t.is(await fuse.unmount('MNT_DETACH'), 'ok');
  await client.writeFile({ path: ecryptfs.file('f'), data: 'served' });
  t.is(text(await client.readFile({ path: ecryptfs.file('f') })), 'served');
  t.deepEqual(await fuse.dataRequests(), []);
  t.is((await fuse.state()).ended, null, 'the connection lives while ecryptfs is mounted');
  t.is(await ecryptfs.unmount(), 'ok');
  const ended = await eventually(
    async () => (await fuse.state()).ended,
    (why) => why !== null,
  );
  t.is(ended, 'ENODEV', 'and ends with it');
});
