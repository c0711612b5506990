import { guestTest } from '../lib/guest-test.ts';
import { AS_A_DIRECTORY, treesAgree } from '../lib/tree-differential/agree.ts';
import { cachedTree, nativeTree } from '../lib/tree-differential/places.ts';

guestTest(
  'a random sequence of changes to names gives through FUSE what it gives in a directory, in passthrough mode',
  async (t, guest) => {
    await using fuse = await guest.mountFuse();
    await using client = await guest.client({ callMs: 20_000 });
    const dir = await guest.directory('ext4', 'native');
    await treesAgree(t, client, {
      places: (round) => [cachedTree('FUSE', fuse.path, round), nativeTree(dir, round)],
      limits: AS_A_DIRECTORY,
      // Each look is some hundred requests to the server.
      sequences: 1,
      again: 1,
      lookEvery: 40,
    });
    t.deepEqual(await fuse.dataRequests(), []);
  },
);
