import { text } from '../lib/bytes.ts';
import { guestTest } from '../lib/guest-test.ts';
import { fill, layersOf, over } from '../lib/layers.ts';
import { metadataAlone, WITH_DIGEST } from '../lib/metadata-alone.ts';
import { WITHOUT_PASSTHROUGH } from '../lib/registration.ts';
import { whereItWaits } from '../lib/where-it-waits.ts';

/** Who looks for the data of metadata, where, and which of several metadata say what these data have to be. */

const OPTIONS = 'metacopy=on,redirect_dir=on';

guestTest(
  'data are looked for in all layers of data alone, whatever one of them has in their place (E4)',
  async (t, guest) => {
    guest.needs(guest.expected.overlaysWithDataLayers, 'layers of data alone');
    await using client = await guest.client();
    const [meta = '', first = '', second = '', upper = '', work = ''] = await layersOf(guest, 5);
    const places = ['linked', 'a-file', 'nothing'];
    for (const place of places) {
      await fill(client, second, [`${place}/`, `${place}/data`]);
      const size = `${place}/data at the bottom`.length;
      await metadataAlone(client, `${meta}/${place}`, { size, redirect: `/${place}/data` });
    }
    await fill(client, first, ['elsewhere/', 'elsewhere/data', 'a-file']);
    await client.symlink({ path: `${first}/linked`, target: 'elsewhere' });
    const layers = { lower: `${meta}::${first}::${second}`, upper, work, options: OPTIONS };
    await using overlay = await guest.mountOverlay(layers, client);
    for (const place of places) {
      const path = overlay.file(place);
      t.is(await client.errno.readFile({ path }), 'ok', `in the first layer: ${place}`);
      t.is(text(await client.readFile({ path })), `${place}/data at the bottom`, place);
    }
  },
);

guestTest(
  'who waits for another to find data in a layer of data alone uses what that finds, and may be killed meanwhile (E4)',
  async (t, guest) => {
    guest.needs(guest.expected.overlaysWithDataLayers, 'layers of data alone');
    await using client = await guest.client();
    await using other = await guest.client();
    await using killed = await guest.client();
    await using fuse = await guest.mountFuse({ passthrough: 'off', init: WITHOUT_PASSTHROUGH });
    await client.writeFile({ path: fuse.backing('data'), data: 'data alone' });
    const [meta = '', upper = '', work = ''] = await layersOf(guest, 3);
    await metadataAlone(client, `${meta}/f`, { size: 10, redirect: '/data' });
    const layers = { lower: `${meta}::${fuse.path}`, upper, work, options: OPTIONS };
    await using overlay = await guest.mountOverlay(layers, client);
    const path = overlay.file('f');
    for (const each of [client, other, killed]) await each.stat({ path });
    const after = await fuse.position();
    const held = await fuse.hold({ opcode: 'LOOKUP', path: '/data' });
    const finds = client.readFile({ path });
    const asked = await held.arrived();
    const waits = other.readFile({ path });
    const gone = killed.errno.readFile({ path }).catch(() => 'gone');
    for (const [by, call] of [
      [other, waits],
      [killed, gone],
    ] as const) {
      t.regex(
        await whereItWaits(guest, by, { call, at: /lowerdata/ }),
        /lowerdata/,
        'it waits for the other',
      );
    }
    await killed.kill('SIGKILL');
    t.like(await killed.exited(), { signal: 'SIGKILL' }, 'who is killed does not wait for the data');
    t.is(await gone, 'gone');
    await held.stop();
    await held.release(asked);
    t.is(text(await finds), 'data alone', 'who looks for them');
    t.is(text(await waits), 'data alone', 'who waits');
    const lookups = await fuse.requests({ opcode: 'LOOKUP', path: '/data', after });
    t.is(lookups.length, 1, 'what one has found is not looked for by the other once more');
  },
);

/** Marks of one file of which all layers but the lowest have metadata alone, and what opening it gives with `verity=on`. */
const DIGESTS = {
  'low-with': { second: undefined, third: WITH_DIGEST, upper: null, gives: 'EIO' },
  'low-without': { second: WITH_DIGEST, third: undefined, upper: null, gives: 'ok' },
  'up-with': { second: undefined, third: null, upper: WITH_DIGEST, gives: 'EIO' },
  'up-without': { second: WITH_DIGEST, third: null, upper: undefined, gives: 'ok' },
} as const;

guestTest('of several metadata the uppermost say which digest the data have (E4)', async (t, guest) => {
  guest.needs(guest.expected.overlaysWithDataLayers, 'digests of the data of a file');
  await using client = await guest.client();
  const layers = await layersOf(guest, 4);
  const [bottom = '', ...above] = layers;
  await fill(client, bottom, Object.keys(DIGESTS));
  for (const [name, { second, third, upper }] of Object.entries(DIGESTS)) {
    const size = `${name} at the bottom`.length;
    for (const [at, mark] of [second, third, upper].entries()) {
      if (mark !== null) await metadataAlone(client, `${above[at] ?? ''}/${name}`, { size, mark });
    }
  }
  await using overlay = await over(guest, client, layers, `${OPTIONS},verity=on`);
  for (const [name, { gives }] of Object.entries(DIGESTS)) {
    t.is(await client.errno.readFile({ path: overlay.file(name) }), gives, `${name} a digest`);
  }
});

guestTest(
  'metadata that a name finds in the index say which digest the data have, as those found by their own name (E4, E17)',
  async (t, guest) => {
    guest.needs(guest.expected.overlaysWithDataLayers, 'digests of the data of a file');
    await using client = await guest.client();
    const [lower = '', upper = '', work = ''] = await layersOf(guest, 3);
    await fill(client, lower, ['a']);
    await client.link({ from: `${lower}/a`, to: `${lower}/b` });
    const options = `${OPTIONS},index=on,verity=on`;
    for (const gives of ['ok', 'EIO']) {
      await using overlay = await guest.mountOverlay({ lower, upper, work, options }, client);
      if (gives === 'ok') await client.chmod({ path: overlay.file('a'), mode: 0o600 });
      // The name that is not in the upper layer first.
      for (const name of ['b', 'a']) {
        const what = `${name}, ${gives === 'ok' ? 'without' : 'with'} a digest`;
        t.is(await client.errno.readFile({ path: overlay.file(name) }), gives, what);
      }
      t.deepEqual(await client.readdir({ path: upper }), ['a']);
      await overlay.unmount();
      await client.setxattr({ path: `${upper}/a`, name: 'trusted.overlay.metacopy', data: WITH_DIGEST });
    }
  },
);

guestTest('a mark of metadata alone is none on what is not a file (E4)', async (t, guest) => {
  await using client = await guest.client();
  const layers = await layersOf(guest, 2);
  const made: string[] = [];
  for (const [kind, mode] of [
    ['fifo', 0o010_644],
    ['socket', 0o140_644],
  ] as const) {
    for (const [at, layer] of layers.entries()) {
      const name = `${kind}-${at}`;
      await client.mknod({ path: `${layer}/${name}`, mode });
      await client.setxattr({ path: `${layer}/${name}`, name: 'trusted.overlay.metacopy', data: '' });
      made.push(name);
    }
  }
  for (const options of ['metacopy=off', OPTIONS]) {
    await using overlay = await over(guest, client, layers, options);
    for (const name of made) {
      t.is(await client.errno.lstat({ path: overlay.file(name) }), 'ok', `${options}: ${name}`);
    }
  }
});
