import { guestTest } from '../lib/guest-test.ts';
import { AS_A_DIRECTORY, treesAgree } from '../lib/tree-differential/agree.ts';
import { nativeTree, overlayTree } from '../lib/tree-differential/places.ts';

/**
 * Whiteouts, opaque directories and moved ones are looked up anew in each, in lower layers too. What is left out:
 * links, where a file of two names becomes two files when it is copied up; and either times or opens for writing
 * where data are copied up late, which sets a time (finding 0016).
 */
const OVERLAYS = {
  // An index is of one upper layer: links would be none any more in the next one.
  'with redirects, an index and metacopy': {
    options: 'redirect_dir=on,index=on,metacopy=on',
    grows: false,
    limits: { ...AS_A_DIRECTORY, without: ['utimens'] },
  },
  'with redirects and metacopy whose upper layers become lower ones': {
    options: 'redirect_dir=on,index=off,metacopy=on',
    grows: true,
    limits: { ...AS_A_DIRECTORY, without: ['link', 'hold'] },
  },
  'without any feature whose upper layers become lower ones': {
    options: 'redirect_dir=off,index=off,metacopy=off',
    grows: true,
    limits: { ...AS_A_DIRECTORY, movesDirectories: false, without: ['link'] },
  },
  // Before 6.6 tmpfs has no attributes of users.
  'over two filesystems, with xino': {
    options: 'redirect_dir=on,index=off,metacopy=off,xino=on',
    lowest: 'tmpfs',
    grows: false,
    limits: { ...AS_A_DIRECTORY, without: ['link', 'setxattr', 'removexattr'] },
  },
} as const;

for (const [what, { options, grows, limits, ...how }] of Object.entries(OVERLAYS)) {
  guestTest(
    `a random sequence of changes to names gives on an overlay ${what} what it gives in a directory (E16, E17)`,
    async (t, guest) => {
      await using client = await guest.client({ callMs: 20_000 });
      const dir = await guest.directory('ext4', 'layers');
      const lowest = 'lowest' in how ? await guest.directory(how.lowest, 'lowest') : dir;
      const mountpoint = await guest.directory('area', 'overlay');
      await treesAgree(t, client, {
        places: (round) => [
          overlayTree({ dir, lowest, mountpoint, options, grows }, round),
          nativeTree(dir, round),
        ],
        limits,
      });
    },
  );
}
