import { guestTest } from '../lib/guest-test.ts';
import { fill } from '../lib/layers.ts';
import { mountedAt } from '../lib/mounted-at.ts';
import { WITHOUT_PASSTHROUGH } from '../lib/registration.ts';
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

/** OVL_FILEID_V1, fs/overlayfs/overlayfs.h. */
const OVERLAY_HANDLE = 0xf8;

guestTest(
  'names of files that are none for opening are those of the overlay only if all of its layers have handles (E17)',
  async (t, guest) => {
    guest.needs(guest.expected.hasIoModes, 'handles that only say which file it is (AT_HANDLE_FID)');
    await using client = await guest.client();
    const init = { ...WITHOUT_PASSTHROUGH, addFlags: ['NO_EXPORT_SUPPORT'] } as const;
    await using fuse = await guest.mountFuse({ passthrough: 'off', init });
    const [one, other] = [await guest.directory('ext4', 'lower'), await guest.directory('ext4', 'lower')];
    await fill(client, one, ['f']);
    for (const [what, lower, own] of [
      ['all have', [one, other], true],
      ['the first has none', [fuse.path, one], false],
      ['the last has none', [one, fuse.path], false],
    ] as const) {
      await using overlay = await guest.mountOverlay(
        { lower: [...lower], ...(await upperOn(guest)) },
        client,
      );
      const { type } = await client.nameToHandle({ path: overlay.file('f'), flags: 'AT_HANDLE_FID' });
      t.is(type === OVERLAY_HANDLE, own, what);
    }
  },
);
