import { driverOfAes } from '../lib/ciphers.ts';
import { guestTest } from '../lib/guest-test.ts';
import { mountedAt } from '../lib/mounted-at.ts';
import { ecryptfsOptions } from '../lib/stacked-mount.ts';

/** Of AES: no length of a key, and the one that ecryptfs takes for the longest there is. */
const [NO_LENGTH, LONGEST] = [7, 0];

// A cipher is tried once, and is known until the machine is switched off.
guestTest.cold(
  'a cipher for names is tried with a key as long as the mount says, by default the longest',
  async (t, guest) => {
    await using client = await guest.client();
    // AES by a name that is not that of the cipher for data, which is tried first.
    const driver = await driverOfAes(client);
    guest.needsBuilt(driver !== undefined && driver !== 'aes', 'a driver of AES with a name of its own');
    const lower = await guest.directory('ext4', 'encrypted');
    const signature = await guest.ecryptfsKey();
    const request = (keyBytes: number) => {
      const more = [
        `ecryptfs_fnek_sig=${signature}`,
        `ecryptfs_fn_cipher=${driver ?? ''}`,
        `ecryptfs_fn_key_bytes=${keyBytes}`,
      ];
      return { source: lower, type: 'ecryptfs', options: ecryptfsOptions(signature, { more }) };
    };
    t.is(await guest.mountErrno(request(NO_LENGTH), client), 'EINVAL', 'AES has no key of 7 bytes');
    t.is(await guest.mountErrno(request(LONGEST), client), 'ok', 'the longest');
    await using ecryptfs = await guest.mount(request(LONGEST), client);
    const { options } = await mountedAt(client, ecryptfs.path);
    t.true(options.includes(`ecryptfs_fn_cipher=${driver ?? ''}`), options);
  },
);
