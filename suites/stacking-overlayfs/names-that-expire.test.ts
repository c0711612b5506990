import type { Client } from '../lib/client.ts';
import type { FuseMount } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';
import { fill } from '../lib/layers.ts';
import { INDEX_DIR, indexEntries } from '../lib/overlay-on-fuse.ts';
import { WITHOUT_PASSTHROUGH } from '../lib/registration.ts';
import { upperOn } from '../lib/stack.ts';
import type { StackedMount } from '../lib/stacked-mount.ts';

/** Names of layers that a server says are valid for no time: an overlay may not trust them for longer. */

type Layer = 'lower' | 'upper';

/** One layer on a plain FUSE filesystem; it has `d/f`, and the server has it at `backing`. */
interface OnFuse extends AsyncDisposable {
  readonly overlay: StackedMount;
  readonly fuse: FuseMount;
  readonly backing: string;
  readonly lower: string;
}

async function onFuse(guest: TestGuest, client: Client, layer: Layer): Promise<OnFuse> {
  await using undo = new AsyncDisposableStack();
  const plain = { passthrough: 'off', init: WITHOUT_PASSTHROUGH, entryValidS: 0 } as const;
  const fuse = undo.use(await guest.mountFuse(plain));
  for (const name of [layer, 'work', `${layer}/d`]) await client.mkdir({ path: fuse.backing(name) });
  const backing = fuse.backing(`${layer}/d/f`);
  await client.writeFile({ path: backing, data: 'of the layer' });
  const layers =
    layer === 'lower'
      ? { lower: fuse.file('lower'), ...(await upperOn(guest)) }
      : { lower: await guest.directory('ext4', 'lower'), upper: fuse.file('upper'), work: fuse.file('work') };
  const overlay = undo.use(await guest.mountOverlay(layers, client));
  const all = undo.move();
  return { overlay, fuse, backing, lower: layers.lower, [Symbol.asyncDispose]: () => all.disposeAsync() };
}

for (const layer of ['lower', 'upper'] as const) {
  guestTest(`names of the ${layer} layer are looked up again when they have expired`, async (t, guest) => {
    await using client = await guest.client();
    await using stack = await onFuse(guest, client, layer);
    const path = stack.overlay.file('d/f');
    t.is(await client.errno.stat({ path }), 'ok');
    for (const round of ['second', 'third']) {
      const after = await stack.fuse.position();
      await client.stat({ path });
      const asked = await stack.fuse.requests({ opcode: 'LOOKUP', after });
      t.deepEqual([...new Set(asked.map(({ args }) => args['name']))], ['d', 'f'], `the ${round} stat`);
    }
    // Nobody may change a layer past the overlay: it does not look for what is there now, and says so.
    await client.unlink({ path: stack.backing });
    t.is(await client.errno.stat({ path }), 'ESTALE', 'removed in the layer');
    t.is(await client.errno.open({ path, flags: 'O_RDONLY' }), 'ESTALE', 'removed in the layer, opened');
  });
}

guestTest(
  'names that were made on an overlay are looked up again when they have expired',
  async (t, guest) => {
    await using client = await guest.client();
    await using stack = await onFuse(guest, client, 'upper');
    await fill(client, stack.overlay.path, ['made/', 'made/sub/', 'made/f']);
    for (const name of ['sub', 'f']) {
      const path = stack.overlay.file(`made/${name}`);
      const backing = stack.fuse.backing(`upper/made/${name}`);
      for (const round of ['first', 'second']) {
        const after = await stack.fuse.position();
        await client.stat({ path });
        const asked = await stack.fuse.requests({ opcode: 'LOOKUP', after });
        t.deepEqual([...new Set(asked.map(({ args }) => args['name']))], ['made', name], `the ${round} stat`);
      }
      await client.rename({ from: backing, to: stack.fuse.backing('aside') });
      t.is(await client.errno.stat({ path }), 'ESTALE', `${name}: moved away in the layer`);
      await client.rename({ from: stack.fuse.backing('aside'), to: backing });
    }
  },
);

guestTest('names that were copied up are looked up again when they have expired', async (t, guest) => {
  await using client = await guest.client();
  await using stack = await onFuse(guest, client, 'upper');
  // Directories: a file may come into the layer without a name first (O_TMPFILE).
  await fill(client, stack.lower, ['low/', 'low/sub/']);
  const path = stack.overlay.file('low/sub');
  await client.chmod({ path, mode: 0o700 });
  t.is(await client.errno.stat({ path: stack.fuse.backing('upper/low/sub') }), 'ok', 'copied up');
  for (const round of ['first', 'second']) {
    const after = await stack.fuse.position();
    await client.stat({ path });
    const asked = await stack.fuse.requests({ opcode: 'LOOKUP', after });
    t.deepEqual([...new Set(asked.map(({ args }) => args['name']))], ['low', 'sub'], `the ${round} stat`);
  }
  await client.rmdir({ path: stack.fuse.backing('upper/low/sub') });
  t.is(await client.errno.stat({ path }), 'ESTALE', 'removed in the layer');
});

guestTest(
  'of a further name of what was copied up the entry in the index is looked up again when it has expired (E17)',
  async (t, guest) => {
    await using client = await guest.client();
    const init = { ...WITHOUT_PASSTHROUGH, addFlags: ['EXPORT_SUPPORT'] } as const;
    await using fuse = await guest.mountFuse({ passthrough: 'off', init, entryValidS: 0 });
    for (const name of ['upper', 'work']) await client.mkdir({ path: fuse.backing(name) });
    const lower = await guest.directory('ext4', 'lower');
    await fill(client, lower, ['a']);
    await client.link({ from: `${lower}/a`, to: `${lower}/b` });
    const layers = { lower, upper: fuse.file('upper'), work: fuse.file('work'), options: 'index=on' };
    await using overlay = await guest.mountOverlay(layers, client);
    for (const name of ['a', 'b']) await client.chmod({ path: overlay.file(name), mode: 0o600 });
    t.is(await client.errno.stat({ path: fuse.backing('upper/b') }), 'ok', 'copied up');
    const [entry = ''] = await indexEntries(client, fuse);
    // The first was copied up by this name, the second has been found copied up.
    for (const name of ['a', 'b']) {
      for (const round of ['first', 'second']) {
        const after = await fuse.position();
        await client.stat({ path: overlay.file(name) });
        const asked = await fuse.requests({ opcode: 'LOOKUP', after });
        t.deepEqual(
          [...new Set(asked.map(({ args }) => args['name']))],
          [entry],
          `${name}, the ${round} stat`,
        );
      }
    }
    await client.unlink({ path: fuse.backing(`${INDEX_DIR}/${entry}`) });
    for (const name of ['a', 'b']) {
      t.is(await client.errno.stat({ path: overlay.file(name) }), 'ESTALE', `${name}, removed in the index`);
    }
  },
);
