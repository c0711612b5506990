import type { Client } from '../lib/client.ts';
import { guestTest } from '../lib/guest-test.ts';
import { upperOnFuse } from '../lib/overlay-on-fuse.ts';

/** What an overlay asks of the server of its upper layer where a file of that is made shorter. */

/** include/uapi/linux/fuse.h */
const [FATTR_SIZE, FATTR_MTIME, FATTR_MTIME_NOW, FATTR_LOCKOWNER] = [1 << 3, 1 << 5, 1 << 8, 1 << 9];
const SIZE = FATTR_SIZE | FATTR_LOCKOWNER;
/** Long ago. */
const CHANGED_NS = 1e18;

interface Truncation {
  readonly make: (client: Client, path: string) => Promise<unknown>;
  readonly valid: number;
}

/**
 * The server empties files at OPEN and knows what an open file is, and sets their time by itself then; but the overlay
 * tells it of neither. Of a truncation by name it is the layer's business, natively as well.
 */
const TRUNCATIONS: Readonly<Record<string, Truncation>> = {
  'ftruncate of an open file': {
    make: async (client, path) => {
      const fd = await client.open({ path, flags: 'O_RDWR' });
      await client.ftruncate({ fd, length: 4 });
      await client.close({ fd });
    },
    valid: SIZE | FATTR_MTIME | FATTR_MTIME_NOW,
  },
  'an open with O_TRUNC': {
    make: async (client, path) =>
      client.close({ fd: await client.open({ path, flags: 'O_WRONLY|O_TRUNC' }) }),
    valid: SIZE | FATTR_MTIME | FATTR_MTIME_NOW,
  },
  'truncate by name': {
    make: (client, path) => client.truncate({ path, length: 3 }),
    valid: SIZE,
  },
};

guestTest(
  'a truncation of an open file of an overlay, or by its open, has the server of the layer set the time of the change',
  async (t, guest) => {
    await using client = await guest.client();
    await using stack = await upperOnFuse(guest, client);
    const { overlay, fuse } = stack;
    for (const [what, { make, valid }] of Object.entries(TRUNCATIONS)) {
      await client.writeFile({ path: fuse.backing('upper/old'), data: 'from above' });
      await client.utimens({ path: fuse.backing('upper/old'), atimeNs: CHANGED_NS, mtimeNs: CHANGED_NS });
      const after = await fuse.position();
      await make(client, overlay.file('old'));
      const asked = await fuse.requests({ opcode: 'SETATTR', after });
      t.deepEqual(
        asked.map(({ args }) => args['valid']),
        [valid],
        `${what}: what the server is to set`,
      );
      const { mtimeNs } = await client.stat({ path: overlay.file('old') });
      t.true(mtimeNs > CHANGED_NS, `${what}: the file is of now`);
    }
  },
);
