import { guestTest } from '../lib/guest-test.ts';
import { mountedAt } from '../lib/mounted-at.ts';
import { ecryptfsOptions } from '../lib/stacked-mount.ts';

const ALL = [
  'ecryptfs_passthrough',
  'ecryptfs_xattr_metadata',
  'ecryptfs_unlink_sigs',
  'ecryptfs_mount_auth_tok_only',
  'ecryptfs_encrypted_view',
];

guestTest(
  'options of ecryptfs take nothing away from each other, in whichever order they are',
  async (t, guest) => {
    await using client = await guest.client();
    const lower = await guest.directory('ext4', 'encrypted');
    const signature = await guest.ecryptfsKey();
    // That names are encrypted is said before all of them.
    for (const more of [ALL, ALL.toReversed()]) {
      const options = ecryptfsOptions(signature, { namesKey: signature, more });
      await using ecryptfs = await guest.mount({ source: lower, type: 'ecryptfs', options }, client);
      const shown = (await mountedAt(client, ecryptfs.path)).options.split(',').sort();
      t.deepEqual(shown, ['ro', 'ecryptfs_fn_cipher=aes', ...options.split(',')].sort(), more.join());
    }
  },
);
