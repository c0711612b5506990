import { text } from '../lib/bytes.ts';
import { eventually } from '../lib/eventually.ts';
import { guestTest } from '../lib/guest-test.ts';
import { needsMaxStackDepth } from '../lib/stack-depth.ts';
import { upperOn } from '../lib/stack.ts';
import { overlayRequest } from '../lib/stacked-mount.ts';

guestTest(
  'an overlay is busy while a file of it is open through FUSE, and free after (E21)',
  async (t, guest) => {
    await using client = await guest.client();
    const lower = await guest.directory('ext4', 'lower');
    await client.writeFile({ path: `${lower}/f`, data: 'below' });
    await using overlay = await guest.mountOverlay({ lower, ...(await upperOn(guest)) }, client);
    await using fuse = await guest.mountFuse({ root: overlay.path, init: { maxStackDepth: 2 } });

    const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
    t.is(await overlay.unmount(), 'EBUSY', 'while it is open');
    t.is(text(await client.pread({ fd, count: 10, offset: 0 })), 'below');
    await client.close({ fd });
    await fuse.waitFor('RELEASE');
    t.is(
      await eventually(
        () => overlay.unmount(),
        (errno) => errno === 'ok',
      ),
      'ok',
      'FUSE is still mounted',
    );
    t.deepEqual(await fuse.dataRequests(), []);
  },
);

guestTest('an open file works on after a lazy umount of the overlay below FUSE (E21)', async (t, guest) => {
  await using client = await guest.client();
  const lower = await guest.directory('ext4', 'lower');
  await client.writeFile({ path: `${lower}/f`, data: 'below' });
  const layers = await upperOn(guest);
  await using overlay = await guest.mountOverlay({ lower, ...layers }, client);
  await using fuse = await guest.mountFuse({ root: overlay.path, init: { maxStackDepth: 2 } });

  const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
  t.is(await overlay.unmount('MNT_DETACH'), 'ok');
  t.is(
    await client.errno.open({ path: fuse.file('f'), flags: 'O_RDONLY' }),
    'ENOENT',
    'the server lost the tree',
  );
  await client.pwrite({ fd, data: 'still', offset: 0 });
  t.is(text(await client.pread({ fd, count: 10, offset: 0 })), 'still');
  t.is(text(await client.readFile({ path: `${layers.upper}/f` })), 'still');
  // The layers' file systems are not busy: overlayfs has mounts of its own. Its upper directory is, with index=on.
  const again = overlayRequest({ lower, ...layers, options: 'index=on' });
  t.is(await guest.mountErrno(again, client), 'EBUSY', 'the detached overlay holds its upper directory');
  await client.close({ fd });
  await fuse.waitFor('RELEASE');
  const freed = await eventually(
    () => guest.mountErrno(again, client),
    (errno) => errno === 'ok',
  );
  t.is(freed, 'ok', 'after the last close the overlay is gone');
  t.deepEqual(await fuse.dataRequests(), []);
});

guestTest('an overlay works on after a lazy umount of the FUSE below it (E21)', async (t, guest) => {
  needsMaxStackDepth(guest);
  await using client = await guest.client();
  await using fuse = await guest.mountFuse({ init: { maxStackDepth: 1 } });
  await client.writeFile({ path: fuse.backing('f'), data: 'served' });
  await using overlay = await guest.mountOverlay({ lower: fuse.path, ...(await upperOn(guest)) }, client);

  t.is(await fuse.unmount('MNT_DETACH'), 'ok');
  t.is(text(await client.readFile({ path: overlay.file('f') })), 'served');
  t.deepEqual(await fuse.dataRequests(), []);
  t.is((await fuse.state()).ended, null, 'the connection lives while the overlay is mounted');
  t.is(await overlay.unmount(), 'ok');
  const ended = await eventually(
    async () => (await fuse.state()).ended,
    (why) => why !== null,
  );
  t.is(ended, 'ENODEV', 'and ends with it');
});
