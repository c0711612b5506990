import { guestTest } from '../lib/guest-test.ts';
import { fill } from '../lib/layers.ts';
import { mountedAt } from '../lib/mounted-at.ts';
import { upperOn } from '../lib/stack.ts';

/** An overlay over ecryptfs, which has no handles to remember its files by. */

guestTest.alone(
  'over a filesystem without file handles there is no index, and directories are copied up all the same',
  async (t, guest) => {
    await using client = await guest.client();
    await using lower = await guest.mountEcryptfs({ lower: await guest.directory('ext4') }, client);
    await fill(client, lower.path, ['d/', 'd/below']);
    await client.chmod({ path: lower.file('d'), mode: 0o750 });
    for (const options of [undefined, 'index=on', 'index=on,nfs_export=on,redirect_dir=on']) {
      const layers = await upperOn(guest);
      const named = options ?? 'no option';
      await using overlay = await guest.mountOverlay({ lower: lower.path, ...layers, options }, client);
      const shown = (await mountedAt(client, overlay.path)).options.split(',');
      t.deepEqual(
        shown.filter((option) => /^(index|nfs_export)=on$/.test(option)),
        [],
        `${named}: no index`,
      );
      await client.mkdir({ path: overlay.file('d/above') });
      t.deepEqual(await client.readdir({ path: overlay.file('d') }), ['above', 'below'], named);
      t.is((await client.stat({ path: `${layers.upper}/d` })).mode & 0o7777, 0o750, `${named}: copied up`);
    }
  },
);
