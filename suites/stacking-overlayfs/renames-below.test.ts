import { guestTest } from '../lib/guest-test.ts';
import { fill } from '../lib/layers.ts';
import { upperOnFuse } from '../lib/overlay-on-fuse.ts';

/** What a rename on an overlay is in its upper layer: with a whiteout left, one taken away, or neither. */

/** include/uapi/linux/fs.h. */
const [EXCHANGE, WHITEOUT] = [1 << 1, 1 << 2];

/** Of `low1` and so on in the lower layer, `new1` and `dir/` in the upper one, and whiteouts for `gone1`. */
const RENAMES: readonly (readonly [
  what: string,
  from: string,
  to: string,
  flags: number,
  exchange?: true,
])[] = [
  ['an upper file', 'new1', 'made1', 0],
  ['a lower file', 'low1', 'made2', WHITEOUT],
  ['an upper file over a lower one', 'new2', 'low2', 0],
  ['a lower file over an upper one', 'low3', 'new3', WHITEOUT],
  ['an upper file to a removed name', 'new4', 'gone1', 0],
  ['a lower file to a removed name', 'low4', 'gone2', EXCHANGE],
  ['an upper directory to a removed name', 'dir', 'gone3', EXCHANGE],
  ['a lower file that changes places with an upper one', 'low5', 'new5', EXCHANGE, true],
  ['an upper file that changes places with a lower one', 'new6', 'low6', EXCHANGE, true],
];

guestTest(
  'a rename on an overlay has the layer leave a whiteout only where a lower name is given up',
  async (t, guest) => {
    await using client = await guest.client();
    await using stack = await upperOnFuse(guest, client);
    const { overlay, fuse, lower } = stack;
    for (const nth of [1, 2, 3, 4, 5, 6]) {
      await fill(client, lower, [`low${nth}`, `gone${nth}`]);
      await fill(client, overlay.path, [`new${nth}`]);
      await client.unlink({ path: overlay.file(`gone${nth}`) });
    }
    await client.mkdir({ path: overlay.file('dir') });
    for (const [what, from, to, expected, exchange] of RENAMES) {
      const after = await fuse.position();
      const names = { from: overlay.file(from), to: overlay.file(to) };
      await client.rename(exchange ? { ...names, flags: 'RENAME_EXCHANGE' } : names);
      const sent = (await fuse.requests({ opcode: ['RENAME', 'RENAME2'], after })).at(-1);
      t.is(sent?.args['name'], from, `${what}: the name`);
      t.is(Number(sent?.args['flags'] ?? 0), expected, `${what}: the flags`);
    }
  },
);
