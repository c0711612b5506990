import { guestTest } from '../lib/guest-test.ts';
import { ecryptfsOptions } from '../lib/stacked-mount.ts';
import { AS_A_DIRECTORY, treesAgree } from '../lib/tree-differential/agree.ts';
import { ecryptfsTree, nativeTree } from '../lib/tree-differential/places.ts';

/** Whether the names below are encrypted as well. */
const NAMES = { plain: false, encrypted: true };

for (const [kind, encrypts] of Object.entries(NAMES)) {
  guestTest(
    `a random sequence of changes to names gives on ecryptfs with ${kind} names what it gives in a directory (E6)`,
    async (t, guest) => {
      await using client = await guest.client({ callMs: 20_000 });
      const signature = await guest.ecryptfsKey();
      const options = ecryptfsOptions(signature, encrypts ? { namesKey: signature } : {});
      const dir = await guest.directory('ext4', 'lower');
      const mountpoint = await guest.directory('area', 'ecryptfs');
      await treesAgree(t, client, {
        places: (round) => [ecryptfsTree({ dir, mountpoint, options }, round), nativeTree(dir, round)],
        limits: { ...AS_A_DIRECTORY, knowsRenameFlags: false },
      });
    },
  );
}
