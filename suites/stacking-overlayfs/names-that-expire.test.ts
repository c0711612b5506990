import { text } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import type { FuseMount } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';
import { fill, layersOf } from '../lib/layers.ts';
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
  'a file that came into the upper layer without a name is looked up by the name that it got there',
  async (t, guest) => {
    await using client = await guest.client();
    await using stack = await onFuse(guest, client, 'upper');
    await fill(client, stack.lower, ['low/', 'low/f']);
    const path = stack.overlay.file('low/f');
    const before = await stack.fuse.position();
    await client.chmod({ path, mode: 0o600 });
    const made = await stack.fuse.opcodes({ opcode: ['TMPFILE', 'LINK'], after: before });
    t.deepEqual(made, ['TMPFILE', 'LINK'], 'how it is copied up');
    for (const round of ['first', 'second']) {
      const after = await stack.fuse.position();
      t.is(await client.errno.stat({ path }), 'ok', `the ${round} stat`);
      const asked = await stack.fuse.requests({ opcode: 'LOOKUP', after });
      t.deepEqual([...new Set(asked.map(({ args }) => args['name']))], ['low', 'f'], `the ${round} stat`);
    }
    await client.unlink({ path: stack.fuse.backing('upper/low/f') });
    t.is(await client.errno.stat({ path }), 'ESTALE', 'removed in the layer');
  },
);

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

/** Which of three layers, the upper one first, is on FUSE; the others are on ext4. All of them have `d/`. */
const PLACES = [
  ['upper', 0],
  ['first lower', 1],
  ['second lower', 2],
] as const;

for (const [which, nth] of PLACES) {
  const how = `names of a directory are looked up again when they have expired in its ${which} layer`;
  guestTest(how, async (t, guest) => {
    await using client = await guest.client();
    const plain = { passthrough: 'off', init: WITHOUT_PASSTHROUGH, entryValidS: 0 } as const;
    await using fuse = await guest.mountFuse(plain);
    for (const name of ['layer', 'work']) await client.mkdir({ path: fuse.backing(name) });
    const [work = '', ...others] = await layersOf(guest, 4);
    const served = others.map((path, at) => (at === nth ? fuse.backing('layer') : path));
    for (const path of served) await client.mkdir({ path: `${path}/d` });
    const [upper = '', ...lower] = others.map((path, at) => (at === nth ? fuse.file('layer') : path));
    const layers = { lower, upper, work: nth === 0 ? fuse.file('work') : work };
    await using overlay = await guest.mountOverlay(layers, client);
    await client.stat({ path: overlay.file('d') });
    const after = await fuse.position();
    await client.stat({ path: overlay.file('d') });
    const asked = await fuse.requests({ opcode: 'LOOKUP', after });
    t.deepEqual([...new Set(asked.map(({ args }) => args['name']))], ['d']);
  });
}

guestTest(
  'the name of data in a layer of data alone is looked up again when it has expired (E4)',
  async (t, guest) => {
    guest.needs(guest.expected.overlaysWithDataLayers, 'layers of data alone');
    await using client = await guest.client();
    const plain = { passthrough: 'off', init: WITHOUT_PASSTHROUGH, entryValidS: 0 } as const;
    await using fuse = await guest.mountFuse(plain);
    await client.writeFile({ path: fuse.backing('data'), data: 'data alone' });
    const [lower = '', upper = '', work = ''] = await layersOf(guest, 3);
    const path = `${lower}/f`;
    await client.writeFile({ path, data: '' });
    await client.truncate({ path, length: 10 });
    await client.setxattr({ path, name: 'trusted.overlay.metacopy', data: '' });
    await client.setxattr({ path, name: 'trusted.overlay.redirect', data: '/data' });
    const options = 'metacopy=on,redirect_dir=on';
    const layers = { lower: `${lower}::${fuse.path}`, upper, work, options };
    await using overlay = await guest.mountOverlay(layers, client);
    const asked = async (): Promise<unknown[]> => {
      const after = await fuse.position();
      await client.stat({ path: overlay.file('f') });
      return (await fuse.requests({ opcode: 'LOOKUP', after })).map(({ args }) => args['name']);
    };
    await asked();
    t.deepEqual(await asked(), [], 'nobody has looked for the data yet');
    t.is(text(await client.readFile({ path: overlay.file('f') })), 'data alone');
    t.deepEqual(await asked(), ['data'], 'the data are known');
    await client.unlink({ path: fuse.backing('data') });
    t.is(await client.errno.stat({ path: overlay.file('f') }), 'ESTALE', 'removed in the layer');
  },
);
