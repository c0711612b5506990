import { OpenFlag } from '../lib/fuse-abi.ts';
import { text } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import type { FuseMount } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';
import { upperOn } from '../lib/stack.ts';
import type { StackedMount } from '../lib/stacked-mount.ts';

interface Registered extends AsyncDisposable {
  readonly fuse: FuseMount;
  readonly overlay: StackedMount;
  readonly lower: string;
  readonly upper: string;
}

/**
 * A FUSE file `f` whose backing file is on an overlay and was registered read-only, so that registering does
 * not copy it up. The server serves a tree of its own: its opens do not touch the overlay.
 */
async function registerLowerFile(guest: TestGuest, client: Client): Promise<Registered> {
  if (!guest.expected.reopensBackingFile)
    guest.skip('a file registered read-only is never opened for writing');
  await using undo = new AsyncDisposableStack();
  const lower = await guest.directory('ext4', 'lower');
  const layers = await upperOn(guest);
  const root = await guest.directory('ext4', 'served');
  for (const directory of [lower, root]) await client.writeFile({ path: `${directory}/f`, data: 'lower' });
  const overlay = undo.use(await guest.mountOverlay({ lower, ...layers }, client));
  const fuse = undo.use(await guest.mountFuse({ root, passthrough: 'off', init: { maxStackDepth: 2 } }));
  const backingId = await fuse.server.registerBacking({ path: overlay.file('f'), flags: 'O_RDONLY' });
  await fuse.answerOpen('OPEN', { openFlags: OpenFlag.PASSTHROUGH, backingId });
  const all = undo.move();
  return { fuse, overlay, lower, upper: layers.upper, [Symbol.asyncDispose]: () => all.disposeAsync() };
}

guestTest(
  'opening for writing copies the backing file up, opening for reading does not',
  async (t, guest) => {
    await using client = await guest.client();
    await using stack = await registerLowerFile(guest, client);

    t.is(text(await client.readFile({ path: stack.fuse.file('f') })), 'lower');
    t.deepEqual(await client.readdir({ path: stack.upper }), [], 'after reading');
    const fd = await client.open({ path: stack.fuse.file('f'), flags: 'O_RDWR' });
    t.deepEqual(await client.readdir({ path: stack.upper }), ['f'], 'after opening for writing');
    await client.pwrite({ fd, data: 'upper', offset: 0 });
    t.is(text(await client.pread({ fd, count: 10, offset: 0 })), 'upper');
    await client.close({ fd });
    t.is(text(await client.readFile({ path: `${stack.upper}/f` })), 'upper');
    t.is(text(await client.readFile({ path: `${stack.lower}/f` })), 'lower');
    t.deepEqual(await stack.fuse.dataRequests(), []);
  },
);

guestTest(
  'an open passthrough file sees a copy-up as a file of the overlay itself does (E4)',
  async (t, guest) => {
    await using client = await guest.client();
    await using stack = await registerLowerFile(guest, client);
    const paths = { passthrough: stack.fuse.file('f'), native: stack.overlay.file('f') };
    const read = { length: 4096, prot: 'PROT_READ', flags: 'MAP_SHARED' };
    const passthrough = await client.open({ path: paths.passthrough, flags: 'O_RDONLY' });
    const native = await client.open({ path: paths.native, flags: 'O_RDONLY' });
    const maps = {
      passthrough: await client.mmap({ fd: passthrough, ...read }),
      native: await client.mmap({ fd: native, ...read }),
    };

    await client.writeFile({ path: stack.overlay.file('f'), data: 'upper', flags: 'O_WRONLY' });
    t.deepEqual(await client.readdir({ path: stack.upper }), ['f'], 'the overlay has copied the file up');
    const readOf = async (fd: number) => text(await client.pread({ fd, count: 10, offset: 0 }));
    const seenIn = async (map: number) => text(await client.mread({ map, offset: 0, length: 5 }));
    t.is(await readOf(native), 'upper', 'a file of the overlay follows the copy-up');
    t.is(await readOf(passthrough), 'upper', 'and so does the passthrough file');
    t.is(await seenIn(maps.native), 'lower', 'a mapping of the overlay stays with the lower file');
    t.is(await seenIn(maps.passthrough), 'lower', 'and so does the mapping of the passthrough file');

    t.is(text(await client.readFile({ path: paths.passthrough })), 'upper', 'a new open');
    for (const map of Object.values(maps)) await client.munmap({ map });
    for (const fd of [passthrough, native]) await client.close({ fd });
    t.deepEqual(await stack.fuse.dataRequests(), []);
  },
);
