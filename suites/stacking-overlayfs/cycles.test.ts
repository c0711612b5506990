import { text } from '../lib/bytes.ts';
import { guestTest } from '../lib/guest-test.ts';
import { depthInWords, fuseDepth, needsMaxStackDepth } from '../lib/stack-depth.ts';
import { upperOn } from '../lib/stack.ts';

guestTest('a server cannot register a file of its own filesystem', async (t, guest) => {
  await using client = await guest.client();
  for (const maxStackDepth of guest.expected.hasMaxStackDepth ? [1, 2] : [2]) {
    await using fuse = await guest.mountFuse({ init: { maxStackDepth } });
    await client.writeFile({ path: fuse.backing('f'), data: 'mine' });
    // The client opens it: a server that waits for an answer of its own would be the test's deadlock.
    const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
    const errno = await fuse.server.registerErrno({ pid: client.pid, fd });
    const depth = fuseDepth(guest, maxStackDepth);
    t.is(errno, guest.expected.tooDeep, depthInWords('backing file on the same FUSE', depth, maxStackDepth));
    t.is(text(await client.pread({ fd, count: 10, offset: 0 })), 'mine', 'the file goes on to work');
    await client.close({ fd });
    t.deepEqual(await fuse.dataRequests(), []);
  }
});

guestTest('a server cannot register a file of an overlay over its own filesystem (E13)', async (t, guest) => {
  needsMaxStackDepth(guest);
  await using client = await guest.client();
  await using fuse = await guest.mountFuse({ init: { maxStackDepth: 1 } });
  await client.writeFile({ path: fuse.backing('f'), data: 'mine' });
  await using overlay = await guest.mountOverlay({ lower: fuse.path, ...(await upperOn(guest)) }, client);
  await client.writeFile({ path: overlay.file('in-the-upper-layer'), data: 'not mine' });

  for (const name of ['f', 'in-the-upper-layer']) {
    const fd = await client.open({ path: overlay.file(name), flags: 'O_RDONLY' });
    const errno = await fuse.server.registerErrno({ pid: client.pid, fd });
    const message = depthInWords(`backing file ${name} on overlayfs over the same FUSE`, 2, 1);
    t.is(errno, guest.expected.tooDeep, message);
    await client.close({ fd });
  }
  t.is(text(await client.readFile({ path: overlay.file('f') })), 'mine', 'the overlay goes on to work');
  t.deepEqual(await fuse.dataRequests(), []);
});
