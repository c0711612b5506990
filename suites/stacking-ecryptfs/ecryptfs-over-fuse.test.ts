import { bytes, firstDifference, pattern } from '../lib/bytes.ts';
import { guestTest } from '../lib/guest-test.ts';
import { depthInWords, needsMaxStackDepth } from '../lib/stack-depth.ts';
import { ecryptfsRequest } from '../lib/stacked-mount.ts';
import { WITHOUT_PASSTHROUGH } from '../lib/registration.ts';

guestTest('ecryptfs over FUSE with max_stack_depth 1 encrypts past the server (E7)', async (t, guest) => {
  needsMaxStackDepth(guest);
  await using client = await guest.client();
  await using fuse = await guest.mountFuse({ init: { maxStackDepth: 1 } });
  await using ecryptfs = await guest.mountEcryptfs({ lower: fuse.path }, client);
  const secret = 'nobody may read this on the disk';
  const data = bytes(secret.repeat(500));

  const fd = await client.open({ path: ecryptfs.file('f'), flags: 'O_RDWR|O_CREAT' });
  await client.pwrite({ fd, data, offset: 0 });
  const part = pattern(50);
  await client.pwrite({ fd, data: part, offset: 9000 });
  data.set(part, 9000);
  t.is(firstDifference(await client.pread({ fd, count: 20_000, offset: 0 }), data), undefined, 'read(2)');
  await client.fsync({ fd });
  await client.close({ fd });
  const stored = Buffer.from(await client.readFile({ path: fuse.backing('f') }));
  t.true(stored.length > data.length, 'the file below FUSE has a header and all of the data');
  t.false(stored.includes(secret), 'the file below FUSE does not have the text');
  t.deepEqual(await fuse.dataRequests(), []);

  t.is(await ecryptfs.unmount(), 'ok');
  await using again = await guest.mountEcryptfs({ lower: fuse.path }, client);
  t.is(firstDifference(await client.readFile({ path: again.file('f') }), data), undefined, 'mounted again');
  t.deepEqual(await fuse.dataRequests(), []);
});

guestTest('ecryptfs over FUSE with max_stack_depth 2 is refused (E7)', async (t, guest) => {
  await using client = await guest.client();
  await using fuse = await guest.mountFuse({ init: { maxStackDepth: 2 } });
  const key = await guest.ecryptfsKey();
  const onExt4 = ecryptfsRequest(await guest.directory('ext4', 'encrypted'), key);
  t.is(await guest.mountErrno(onExt4, client), 'ok', 'over ext4 it mounts');
  const message = depthInWords('ecryptfs over FUSE with max_stack_depth 2', 2);
  t.is(await guest.mountErrno(ecryptfsRequest(fuse.path, key), client), 'EINVAL', message);
});

guestTest('ecryptfs over FUSE without passthrough counts 1 (E12)', async (t, guest) => {
  await using client = await guest.client();
  await using fuse = await guest.mountFuse({ passthrough: 'off', init: WITHOUT_PASSTHROUGH });
  await using ecryptfs = await guest.mountEcryptfs({ lower: fuse.path }, client);
  const data = pattern(6000);
  await client.writeFile({ path: ecryptfs.file('f'), data });
  t.is(firstDifference(await client.readFile({ path: ecryptfs.file('f') }), data), undefined);
  await using overlay = await guest.mountOverlay(
    { lower: [ecryptfs.path, await guest.directory('ext4')] },
    client,
  );
  const message = depthInWords('overlayfs over ecryptfs over FUSE without passthrough', 1);
  // Seen, not opened: up to 6.6 ecryptfs crashes on a file that overlayfs opens, with or without FUSE.
  t.is((await client.stat({ path: overlay.file('f') })).size, data.length, message);
  t.true((await fuse.opcodes({ opcode: ['WRITE'] })).length > 0, 'the server does the input and output');
});
