import { ENTRY, u64 } from '../lib/entry-answer.ts';
import type { FuseMount } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';
import { fill } from '../lib/layers.ts';
import { layersOnFuse, upperOnFuse } from '../lib/overlay-on-fuse.ts';

/** A server of the upper layer that answers mkdir with the number of a directory that there is already. */

/** Longer than any test. Seconds. */
const LONG = 100_000n;

/** Has the next MKDIR done, and answered as if it were that directory; for how long the name may be believed. */
async function answerKnown(fuse: FuseMount, known: string, entryValidS: bigint): Promise<void> {
  const node = u64(BigInt(await fuse.nodeid(known)));
  const bytes = new Uint8Array([...node, ...u64(0n), ...u64(entryValidS)]);
  await fuse.rule({ match: { opcode: 'MKDIR' }, times: 1, action: { do: 'patch', at: ENTRY.nodeid, bytes } });
}

guestTest(
  'a directory that was made is looked up where its own name does not lead to it at once',
  async (t, guest) => {
    await using client = await guest.client();
    await using stack = await upperOnFuse(guest, client);
    const { overlay, fuse } = stack;
    await fill(client, overlay.path, ['known/', 'known/f']);
    await client.stat({ path: overlay.file('known') });

    await answerKnown(fuse, '/upper/known', 0n);
    const permit = await fuse.rule({
      match: { opcode: 'LOOKUP', path: '/upper/refused' },
      // It is asked for before it is made.
      nth: 3,
      action: { do: 'error', errno: 'EDQUOT' },
    });
    t.is(await client.errno.mkdir({ path: overlay.file('refused') }), 'EDQUOT', 'it cannot be looked up');
    await permit();
    t.is(await client.errno.stat({ path: fuse.backing('upper/refused') }), 'ok', 'it was made all the same');

    await answerKnown(fuse, '/upper/known', 0n);
    t.is(await client.errno.mkdir({ path: overlay.file('made') }), 'ok');
    t.is(await client.errno.creat({ path: overlay.file('made/g') }), 'ok');
    t.deepEqual(
      await client.readdir({ path: fuse.backing('upper/made') }),
      ['g'],
      'it is that which was made',
    );
  },
);

guestTest(
  'a directory that is made is not one that is merged with a lower one: ESTALE, and it is removed',
  async (t, guest) => {
    // Linux 6.1 says ECHILD: it leaves the name for which nothing was made as one to ask its layers for.
    guest.needs(guest.expected.overlaysWithDataLayers, 'names that can be used after such an error');
    await using client = await guest.client();
    await using layers = await layersOnFuse(guest, client);
    const { fuse } = layers;
    await fill(client, fuse.root, ['lower/merged/', 'upper/merged/', 'upper/merged/f']);
    // With this option the overlay knows its own inode of a merged directory by the upper one.
    await using overlay = await layers.mount('index=on,nfs_export=on,redirect_dir=on');
    const fd = await client.open({ path: overlay.file('merged'), flags: 'O_RDONLY|O_DIRECTORY' });
    await answerKnown(fuse, '/upper/merged', LONG);
    t.is(await client.errno.mkdir({ path: overlay.file('made') }), 'ESTALE');
    t.is(await client.errno.lstat({ path: fuse.backing('upper/made') }), 'ENOENT', 'removed');
    t.is(await client.errno.lstat({ path: overlay.file('made') }), 'ENOENT');
    await client.close({ fd });
  },
);
