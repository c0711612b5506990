import { bytes, concat, firstDifference, pattern, text } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import type { FuseMount } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';
import { upperOn } from '../lib/stack.ts';
import type { StackedMount } from '../lib/stacked-mount.ts';
import { needsMappings } from '../lib/registration.ts';

/** FUSE over a writable overlay whose lower layer has the file `f`. */
interface Served extends AsyncDisposable {
  readonly fuse: FuseMount;
  readonly overlay: StackedMount;
  readonly lower: string;
  readonly upper: string;
}

const DEEP_ENOUGH = { maxStackDepth: 2 };

async function serveOverlay(guest: TestGuest, client: Client, data: string | Uint8Array): Promise<Served> {
  await using undo = new AsyncDisposableStack();
  const lower = await guest.directory('ext4', 'lower');
  const layers = await upperOn(guest);
  await client.writeFile({ path: `${lower}/f`, data });
  const overlay = undo.use(await guest.mountOverlay({ lower, ...layers }, client));
  const fuse = undo.use(await guest.mountFuse({ root: overlay.path, init: DEEP_ENOUGH }));
  const all = undo.move();
  return { fuse, overlay, lower, upper: layers.upper, [Symbol.asyncDispose]: () => all.disposeAsync() };
}

guestTest('reads of a file on overlayfs give the lower layer and send no READ (E3)', async (t, guest) => {
  await using client = await guest.client();
  const data = pattern(70_000);
  await using stack = await serveOverlay(guest, client, data);

  const fd = await client.open({ path: stack.fuse.file('f'), flags: 'O_RDONLY' });
  t.is(firstDifference(await client.pread({ fd, count: 100_000, offset: 0 }), data), undefined);
  const middle = await client.pread({ fd, count: 5000, offset: 12_345 });
  t.is(firstDifference(middle, data.subarray(12_345, 17_345)), undefined);
  await client.close({ fd });
  t.deepEqual(await stack.fuse.dataRequests(), []);
});

guestTest(
  'writes to a file on overlayfs go to the upper layer and leave the lower alone',
  async (t, guest) => {
    await using client = await guest.client();
    const data = pattern(9000);
    await using stack = await serveOverlay(guest, client, data);
    const model = data.slice();

    const fd = await client.open({ path: stack.fuse.file('f'), flags: 'O_RDWR' });
    for (const [index, offset] of [0, 4095, 8990].entries()) {
      const part = pattern(10, index + 2);
      t.is(await client.pwrite({ fd, data: part, offset }), part.length);
      model.set(part, offset);
      const back = await client.pread({ fd, count: 20_000, offset: 0 });
      t.is(firstDifference(back, model), undefined, `read back after a write at ${offset}`);
    }
    await client.close({ fd });
    t.is(
      firstDifference(await client.readFile({ path: stack.overlay.file('f') }), model),
      undefined,
      'overlay',
    );
    t.is(
      firstDifference(await client.readFile({ path: `${stack.upper}/f` }), model),
      undefined,
      'upper layer',
    );
    t.is(
      firstDifference(await client.readFile({ path: `${stack.lower}/f` }), data),
      undefined,
      'lower layer',
    );
    t.deepEqual(await stack.fuse.dataRequests(), []);
  },
);

guestTest('O_APPEND through overlayfs adds at the end of what was copied up', async (t, guest) => {
  await using client = await guest.client();
  await using stack = await serveOverlay(guest, client, 'lower ');

  const fd = await client.open({ path: stack.fuse.file('f'), flags: 'O_WRONLY|O_APPEND' });
  for (const word of ['one ', 'two ', 'three']) await client.write({ fd, data: word });
  const { size } = await client.fstat({ fd });
  await client.close({ fd });
  const expected = 'lower one two three';
  t.is(size, expected.length);
  t.is(text(await client.readFile({ path: `${stack.upper}/f` })), expected);
  t.is(text(await client.readFile({ path: `${stack.lower}/f` })), 'lower ');
  t.deepEqual(await stack.fuse.dataRequests(), []);
});

guestTest('a shared mapping of a file on overlayfs stores into the upper layer', async (t, guest) => {
  needsMappings(guest);
  await using client = await guest.client();
  const data = pattern(8192);
  await using stack = await serveOverlay(guest, client, data);

  const fd = await client.open({ path: stack.fuse.file('f'), flags: 'O_RDWR' });
  const map = await client.mmap({ fd, length: 8192, prot: 'PROT_READ|PROT_WRITE', flags: 'MAP_SHARED' });
  t.is(firstDifference(await client.mread({ map, offset: 0, length: 8192 }), data), undefined);
  await client.mwrite({ map, offset: 4090, data: bytes('through the mapping') });
  const model = data.slice();
  model.set(bytes('through the mapping'), 4090);
  t.is(firstDifference(await client.pread({ fd, count: 8192, offset: 0 }), model), undefined, 'read(2)');
  t.is(firstDifference(await client.readFile({ path: `${stack.upper}/f` }), model), undefined, 'upper layer');
  t.is(firstDifference(await client.readFile({ path: `${stack.lower}/f` }), data), undefined, 'lower layer');
  await client.munmap({ map });
  await client.close({ fd });
  t.deepEqual(await stack.fuse.dataRequests(), []);
});

guestTest('a file made through FUSE appears in the upper layer', async (t, guest) => {
  await using client = await guest.client();
  await using stack = await serveOverlay(guest, client, 'lower');

  const data = concat(pattern(5000), bytes('end'));
  await client.writeFile({ path: stack.fuse.file('new'), data, mode: 0o600 });
  t.is(firstDifference(await client.readFile({ path: `${stack.upper}/new` }), data), undefined);
  t.deepEqual(await client.readdir({ path: stack.lower }), ['f']);
  t.deepEqual(await stack.fuse.dataRequests(), []);
});

guestTest('a file on a read-only overlay is read in passthrough mode', async (t, guest) => {
  await using client = await guest.client();
  const layers = [await guest.directory('ext4', 'a'), await guest.directory('tmpfs', 'b')] as const;
  await client.writeFile({ path: `${layers[0]}/on-ext4`, data: 'in the upper of two' });
  await client.writeFile({ path: `${layers[1]}/on-tmpfs`, data: 'in the lower of two' });
  await using overlay = await guest.mountOverlay({ lower: layers }, client);
  await using fuse = await guest.mountFuse({ root: overlay.path, init: DEEP_ENOUGH });

  t.is(text(await client.readFile({ path: fuse.file('on-ext4') })), 'in the upper of two');
  t.is(text(await client.readFile({ path: fuse.file('on-tmpfs') })), 'in the lower of two');
  t.is(await client.errno.open({ path: fuse.file('on-tmpfs'), flags: 'O_RDWR' }), 'EROFS');
  t.deepEqual(await fuse.dataRequests(), []);
});
