import type { Client } from '../lib/client.ts';
import { eventually } from '../lib/eventually.ts';
import { guestTest } from '../lib/guest-test.ts';
import { fill, layersOf, over } from '../lib/layers.ts';
import { lowerOnFuse } from '../lib/overlay-on-fuse.ts';

/** What stat of a file of an overlay asks its layers for, and what it believes of a lower file that has changed. */

const HOUR_NS = 3_600_000_000_000;

guestTest(
  'an overlay tells the time of birth of the file in its layer, if it is asked for',
  async (t, guest) => {
    await using client = await guest.client();
    const layers = await layersOf(guest, 2);
    const [lower = '', upper = ''] = layers;
    await fill(client, lower, ['below', 'copied']);
    await fill(client, upper, ['above']);
    await using overlay = await over(guest, client, layers);
    const birth = async (path: string) => (await client.stat({ path, btime: true })).btimeNs ?? null;
    await client.chmod({ path: overlay.file('copied'), mode: 0o600 });
    for (const [name, layer] of [
      ['below', lower],
      ['above', upper],
      ['copied', upper],
    ] as const) {
      const native = await birth(`${layer}/${name}`);
      t.not(native, null, `${name}: its filesystem has such a time`);
      t.is(await birth(overlay.file(name)), native, name);
    }
  },
);

guestTest(
  'a server of a lower layer is asked by stat with AT_STATX_FORCE_SYNC, and not with AT_STATX_DONT_SYNC',
  async (t, guest) => {
    await using client = await guest.client();
    for (const [what, seconds, asks] of [
      ['attributes that are good still', 3600, { '': [], AT_STATX_FORCE_SYNC: ['GETATTR'] }],
      ['attributes that have expired', 0, { '': ['GETATTR'], AT_STATX_DONT_SYNC: [] }],
    ] as const) {
      const valid = { attrValidS: seconds, entryValidS: 3600 };
      await using stack = await lowerOnFuse(guest, client, valid);
      const { overlay, fuse } = stack;
      const fd = await client.open({ path: overlay.file('f'), flags: 'O_RDONLY' });
      for (const where of ['a lower file', 'one that is copied up']) {
        for (const [flags, expected] of Object.entries(asks)) {
          const after = await fuse.position();
          await client.fstat({ fd, flags });
          const asked = await fuse.opcodes({ opcode: 'GETATTR', path: '/f', after });
          t.deepEqual(asked, expected, `${where}, ${what}, ${flags || 'no flag'}`);
        }
        await client.chmod({ path: overlay.file('f'), mode: 0o604 });
        // What the copy-up has asked for is known by now, or has expired.
        await client.fstat({ fd });
      }
      await client.close({ fd });
    }
  },
);

guestTest(
  'a copied file has its own number when the lower one has got another name meanwhile',
  async (t, guest) => {
    await using client = await guest.client();
    const layers = await layersOf(guest, 2);
    const [lower = '', upper = ''] = layers;
    await fill(client, lower, ['f']);
    await using overlay = await over(guest, client, layers, 'index=off');
    const path = overlay.file('f');
    const inoOf = async (at: string) => (await client.stat({ path: at })).ino;
    await client.chmod({ path, mode: 0o600 });
    const [below, copy] = [await inoOf(`${lower}/f`), await inoOf(`${upper}/f`)];
    t.not(below, copy);
    t.is(await inoOf(path), below, 'as long as it is the only name');
    await client.link({ from: `${lower}/f`, to: `${lower}/g` });
    t.is(await inoOf(path), copy, 'with another name, which may be another file');
    t.is(await inoOf(overlay.file('g')), below, 'the other name');
    await client.unlink({ path: `${lower}/g` });
    t.is(await inoOf(path), below, 'when that is gone');
  },
);

/** The time of the last change of a file that is made now, which the clock of the guest tells. */
async function now(client: Client, at: string): Promise<number> {
  await client.writeFile({ path: `${at}/clock`, data: '' });
  return (await client.stat({ path: `${at}/clock` })).ctimeNs;
}

guestTest(
  'reading a directory on an overlay changes its access time if its status has changed since the last one',
  async (t, guest) => {
    await using client = await guest.client();
    const layers = await layersOf(guest, 2);
    const [, upper = ''] = layers;
    await fill(client, upper, ['d/', 'd/f']);
    await using overlay = await over(guest, client, layers);
    const path = overlay.file('d');
    const time = await now(client, upper);
    const [old, recent] = [time - 2 * HOUR_NS, time - HOUR_NS];
    // To set times is a change of the status, which is later than both of them.
    await client.utimens({ path, atimeNs: recent, mtimeNs: old });
    const accessed = async () => (await client.stat({ path: `${upper}/d` })).atimeNs;
    t.is(await accessed(), recent, 'before');
    await client.readdir({ path });
    const first = await accessed();
    t.true(
      first > recent + HOUR_NS / 2,
      'read after a change that is later than the access and the contents',
    );
    await client.utimens({ path, atimeNs: time + 10 * HOUR_NS, mtimeNs: old });
    await client.readdir({ path });
    t.is(await accessed(), time + 10 * HOUR_NS, 'read after an access that is later than any change');

    await client.utimens({ path, atimeNs: recent, mtimeNs: old });
    const readAgain = async () => {
      await client.readdir({ path });
      await client.utimens({ path: `${upper}/d`, atimeNs: recent, mtimeNs: null });
      await client.readdir({ path });
      return accessed();
    };
    // The clock of files ticks slowly: an access is later than the last change only after its next tick.
    const kept = await eventually(readAgain, (atimeNs) => atimeNs === recent);
    t.is(kept, recent, 'read again after an access that the overlay knows to be later than any change');
  },
);

guestTest(
  'a merged directory has one link, any other as many as in its layer, and as much space',
  async (t, guest) => {
    await using client = await guest.client();
    const layers = await layersOf(guest, 3);
    const [bottom = '', middle = '', upper = ''] = layers;
    const within = (name: string) => [`${name}/`, `${name}/a/`, `${name}/b/`];
    await fill(client, bottom, [...within('lowest'), ...within('lower'), ...within('both')]);
    await fill(client, middle, within('lower'));
    await fill(client, upper, [...within('both'), ...within('upper')]);
    await using overlay = await over(guest, client, layers);
    await fill(client, overlay.path, within('made'));
    for (const [name, layer, merged] of [
      ['lowest', bottom, false],
      ['lower', middle, true],
      ['both', upper, true],
      ['upper', upper, false],
      ['made', upper, false],
    ] as const) {
      const native = await client.stat({ path: `${layer}/${name}` });
      const { nlink, size, blocks } = await client.stat({ path: overlay.file(name) });
      t.is(native.nlink, 4, `${name}: two directories in it`);
      const told = [merged ? 1 : native.nlink, native.size, native.blocks];
      t.deepEqual([nlink, size, blocks], told, name);
    }
  },
);
