import { firstDifference, pattern } from '../lib/bytes.ts';
import { decryptLowerFile, encryptName, passphraseKey } from '../lib/ecryptfs-format.ts';
import { guestTest } from '../lib/guest-test.ts';
import { ecryptfsOptions } from '../lib/stacked-mount.ts';

/** What ecryptfs has written is read by a program that has nothing of the kernel’s: both being wrong shows. */

const PASSPHRASE = 'fusegate';
const HEADER = 8192;
const EXTENT = 4096;
/** ECRYPTFS_FILE_VERSION; that the data are encrypted, and that names are. */
const [VERSION, ENCRYPTED, NAMES_ENCRYPTED] = [3, 2, 8];

const LENGTHS = [1, EXTENT - 1, EXTENT, EXTENT + 1, 12 * EXTENT + 5];

guestTest(
  'the lower file of ecryptfs is what its format says, read by another program (E6)',
  async (t, guest) => {
    await using client = await guest.client();
    const lower = await guest.directory('ext4', 'encrypted');
    await using ecryptfs = await guest.mountEcryptfs({ lower }, client);
    await using fuse = await guest.mountFuse({ root: ecryptfs.path, init: { maxStackDepth: 2 } });
    const key = passphraseKey(PASSPHRASE);
    t.is(await guest.ecryptfsKey(PASSPHRASE), key.signature, 'the key of the mount');

    for (const length of LENGTHS) {
      for (const [above, path] of [
        ['ecryptfs', ecryptfs.file(`e${length}`)],
        ['FUSE over it', fuse.file(`f${length}`)],
      ] as const) {
        const data = pattern(length);
        await client.writeFile({ path, data });
        const name = path.slice(path.lastIndexOf('/'));
        const file = decryptLowerFile(await client.readFile({ path: `${lower}${name}` }), key);
        const { size, headerBytes, version, flags } = file;
        t.deepEqual(
          { size, headerBytes, version, flags },
          { size: length, headerBytes: HEADER, version: VERSION, flags: ENCRYPTED },
          `${length} bytes through ${above}: the header`,
        );
        const whole = new Uint8Array(Math.ceil(length / EXTENT) * EXTENT);
        whole.set(data);
        t.is(
          firstDifference(file.data, whole),
          undefined,
          `${length} bytes through ${above}, and zeros to the end`,
        );
      }
    }
    t.deepEqual(await fuse.dataRequests(), []);
  },
);

guestTest(
  'what truncation cuts off is not in the lower file any more, not even encrypted (E6)',
  async (t, guest) => {
    await using client = await guest.client();
    const lower = await guest.directory('ext4', 'encrypted');
    await using ecryptfs = await guest.mountEcryptfs({ lower }, client);
    await using fuse = await guest.mountFuse({ root: ecryptfs.path, init: { maxStackDepth: 2 } });
    const key = passphraseKey(PASSPHRASE);
    for (const [above, mount] of [
      ['ecryptfs', ecryptfs],
      ['FUSE over it', fuse],
    ] as const) {
      for (const length of [2 * EXTENT + 1, EXTENT + 905, 100]) {
        const [name, data] = [`${above} ${length}`, pattern(4 * EXTENT)];
        await client.writeFile({ path: mount.file(name), data });
        await client.truncate({ path: mount.file(name), length });
        const file = decryptLowerFile(await client.readFile({ path: `${lower}/${name}` }), key);
        const whole = new Uint8Array(Math.ceil(length / EXTENT) * EXTENT);
        whole.set(data.subarray(0, length));
        t.is(file.size, length, `${length} bytes through ${above}: the header`);
        t.is(
          firstDifference(file.data, whole),
          undefined,
          `${length} bytes through ${above}: zeros to the end`,
        );
      }
    }
  },
);

guestTest('a header says whether names are encrypted as well (E6)', async (t, guest) => {
  await using client = await guest.client();
  const lower = await guest.directory('ext4', 'encrypted');
  const key = passphraseKey(PASSPHRASE);
  t.is(await guest.ecryptfsKey(PASSPHRASE), key.signature, 'the key of the mount');
  for (const [namesKey, below, expected] of [
    [undefined, 'f', ENCRYPTED],
    [key.signature, encryptName('f', key), ENCRYPTED | NAMES_ENCRYPTED],
  ] as const) {
    const options = ecryptfsOptions(key.signature, { namesKey });
    await using ecryptfs = await guest.mount({ source: lower, type: 'ecryptfs', options }, client);
    await client.writeFile({ path: ecryptfs.file('f'), data: 'contents' });
    const { flags } = decryptLowerFile(await client.readFile({ path: `${lower}/${below}` }), key);
    t.is(flags, expected, namesKey === undefined ? 'names as they are' : 'names encrypted');
  }
});
