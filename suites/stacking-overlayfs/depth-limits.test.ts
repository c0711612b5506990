import type { Client } from '../lib/client.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';
import { depthInWords, fuseDepth, needsMaxStackDepth } from '../lib/stack-depth.ts';
import { upperOn } from '../lib/stack.ts';
import type { StackedMount } from '../lib/stacked-mount.ts';

/** A place whose files are registered, and what its superblock counts. */
interface Place {
  readonly name: string;
  readonly path: string;
  readonly depth: number;
}

async function writableOverlay(guest: TestGuest, client: Client, lower: string): Promise<StackedMount> {
  return guest.mountOverlay({ lower, ...(await upperOn(guest)) }, client);
}

guestTest('with max_stack_depth 1 only files of depth 0 can be registered', async (t, guest) => {
  needsMaxStackDepth(guest);
  await using client = await guest.client();
  await using fuse = await guest.mountFuse({ init: { maxStackDepth: 1 } });
  const lower = await guest.directory('ext4', 'lower');
  await using overlay = await writableOverlay(guest, client, lower);
  await using twice = await writableOverlay(guest, client, overlay.path);
  const places: readonly Place[] = [
    { name: 'ext4', path: lower, depth: 0 },
    { name: 'tmpfs', path: await guest.directory('tmpfs'), depth: 0 },
    { name: 'overlayfs', path: overlay.path, depth: 1 },
    { name: 'overlayfs over overlayfs', path: twice.path, depth: 2 },
  ];
  for (const { name, path, depth } of places) {
    const file = `${path}/of-${name.length}`;
    await client.writeFile({ path: file, data: name });
    const errno = await fuse.server.registerErrno({ path: file, flags: 'O_RDWR' });
    const expected = depth === 0 ? 'ok' : guest.expected.tooDeep;
    t.is(errno, expected, depthInWords(`backing file on ${name}`, depth, 1));
  }
  t.is(await twice.unmount(), 'ok', 'a refused registration holds nothing of the upper overlay');
  t.is(await overlay.unmount(), 'ok', 'a refused registration holds nothing of the lower overlay');
});

guestTest('with max_stack_depth 2 files of depth 0 and 1 can be registered', async (t, guest) => {
  await using client = await guest.client();
  await using fuse = await guest.mountFuse({ init: { maxStackDepth: 2 } });
  const lower = await guest.directory('ext4', 'lower');
  await using overlay = await writableOverlay(guest, client, lower);
  await using twice = await writableOverlay(guest, client, overlay.path);
  const places: readonly Place[] = [
    { name: 'ext4', path: lower, depth: 0 },
    { name: 'tmpfs', path: await guest.directory('tmpfs'), depth: 0 },
    { name: 'overlayfs', path: overlay.path, depth: 1 },
    { name: 'overlayfs over overlayfs', path: twice.path, depth: 2 },
  ];
  for (const { name, path, depth } of places) {
    const file = `${path}/of-${name.length}`;
    await client.writeFile({ path: file, data: name });
    const errno = await fuse.server.registerErrno({ path: file, flags: 'O_RDWR' });
    const expected = depth <= 1 ? 'ok' : guest.expected.tooDeep;
    t.is(errno, expected, depthInWords(`backing file on ${name}`, depth));
  }
  t.is(await twice.unmount(), 'ok', 'a refused registration holds nothing of the upper overlay');
  // Where there is no close, ids are freed with their connection.
  if (!guest.expected.hasClose) await fuse[Symbol.asyncDispose]();
  t.is(await overlay.unmount(), 'ok', 'a registration that is over holds nothing of the lower overlay');
});

guestTest('a file of procfs is too deep for any server', async (t, guest) => {
  for (const maxStackDepth of guest.expected.hasMaxStackDepth ? [1, 2] : [2]) {
    await using fuse = await guest.mountFuse({ init: { maxStackDepth } });
    const errno = await fuse.server.registerErrno({ path: '/proc/version', flags: 'O_RDONLY' });
    t.is(errno, guest.expected.procFile, depthInWords('backing file on procfs', 2, maxStackDepth));
    const backing = await guest.directory('ext4');
    const control = { path: `${backing}/f`, flags: 'O_RDWR|O_CREAT' };
    t.is(await fuse.server.registerErrno(control), 'ok', 'a file on ext4 is registered by the same server');
  }
});

guestTest(
  'a passthrough file of another FUSE filesystem counts what its server asked for',
  async (t, guest) => {
    await using client = await guest.client();
    await using other = await guest.mountFuse({ init: { maxStackDepth: 1 } });
    await client.writeFile({ path: other.backing('f'), data: 'below' });
    const lowerDepth = fuseDepth(guest, 1);
    for (const maximum of guest.expected.hasMaxStackDepth ? [1, 2] : [2]) {
      await using fuse = await guest.mountFuse({ init: { maxStackDepth: maximum } });
      const errno = await fuse.server.registerErrno({ path: other.file('f'), flags: 'O_RDWR' });
      const expected = lowerDepth < maximum ? 'ok' : guest.expected.tooDeep;
      t.is(errno, expected, depthInWords('backing file on FUSE with passthrough', lowerDepth, maximum));
    }
  },
);

guestTest('a file of a FUSE filesystem with max_stack_depth 2 is too deep', async (t, guest) => {
  await using client = await guest.client();
  await using other = await guest.mountFuse({ init: { maxStackDepth: 2 } });
  await client.writeFile({ path: other.backing('f'), data: 'below' });
  await using fuse = await guest.mountFuse({ init: { maxStackDepth: 2 } });
  const errno = await fuse.server.registerErrno({ path: other.file('f'), flags: 'O_RDWR' });
  t.is(errno, guest.expected.tooDeep, depthInWords('backing file on FUSE with max_stack_depth 2', 2));
  const control = { path: other.backing('f'), flags: 'O_RDWR' };
  t.is(await fuse.server.registerErrno(control), 'ok', 'its backing file on ext4 is registered');
});
