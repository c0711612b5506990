import { firstDifference, pattern, text } from '../lib/bytes.ts';
import { lowerFile, passphrasePacket, signaturePacket } from '../lib/ecryptfs-packets.ts';
import { guestTest } from '../lib/guest-test.ts';
import { ecryptfsOptions, type MountRequest } from '../lib/stacked-mount.ts';

/** Which keys a mount of ecryptfs takes: the one it names, and those of its user for files that were made elsewhere. */

const ONLY_ITS_OWN = 'ecryptfs_mount_auth_tok_only';
/** Signature of no key. */
const NOBODYS = '0123456789abcdef';

function request(lower: string, signature: string, ...more: string[]): MountRequest {
  return { source: lower, type: 'ecryptfs', options: ecryptfsOptions(signature, { more }) };
}

guestTest(
  'ecryptfs is not mounted without a key, nor with a cipher that it does not know',
  async (t, guest) => {
    await using client = await guest.client();
    const lower = await guest.directory('ext4', 'encrypted');
    const signature = await guest.ecryptfsKey();
    const mount = (options: string): Promise<string> =>
      guest.mountErrno({ source: lower, type: 'ecryptfs', options }, client);
    t.is(await mount(ecryptfsOptions(signature)), 'ok');
    t.is(await mount('ecryptfs_cipher=aes,ecryptfs_key_bytes=16'), 'EINVAL', 'no signature of a key');
    t.is(await mount(ecryptfsOptions(NOBODYS)), 'ENOENT', 'the signature of a key that nobody has');
    const cipher = `ecryptfs_sig=${signature},ecryptfs_key_bytes=16,ecryptfs_cipher=rot13`;
    t.is(await mount(cipher), 'EINVAL', 'no such cipher');
    const bytes = `ecryptfs_sig=${signature},ecryptfs_cipher=aes,ecryptfs_key_bytes=17`;
    t.is(await mount(bytes), 'EINVAL', 'a key of no length that AES has');

    const second = await guest.ecryptfsKey('second');
    const two = (one: string, other: string) => `ecryptfs_sig=${one},${ecryptfsOptions(other)}`;
    t.is(await mount(two(signature, second)), 'ok', 'two keys');
    t.is(await mount(two(signature, NOBODYS)), 'ENOENT', 'two, of which nobody has the second');
    t.is(await mount(two(NOBODYS, signature)), 'ENOENT', 'two, of which nobody has the first');
    const names = ecryptfsOptions(signature, { namesKey: NOBODYS });
    t.is(await mount(names), 'ENOENT', 'a key for names that nobody has');
  },
);

guestTest('a file of a mount with two keys is read with either of them (E6)', async (t, guest) => {
  await using client = await guest.client();
  const lower = await guest.directory('ext4', 'encrypted');
  const keys = [await guest.ecryptfsKey('first'), await guest.ecryptfsKey('second')] as const;
  {
    const both = request(lower, keys[0], `ecryptfs_sig=${keys[1]}`);
    await using ecryptfs = await guest.mount(both, client);
    await client.writeFile({ path: ecryptfs.file('f'), data: 'of both' });
    t.is(await ecryptfs.unmount(), 'ok');
  }
  for (const [nth, signature] of keys.entries()) {
    await using ecryptfs = await guest.mount(request(lower, signature, ONLY_ITS_OWN), client);
    const path = ecryptfs.file('f');
    t.is(await client.errno.readFile({ path }), 'ok', `with key ${nth} alone`);
    t.is(text(await client.readFile({ path })), 'of both', `with key ${nth} alone`);
  }
});

guestTest(
  'a file of another key is read with that key, unless the mount takes none but its own (E6)',
  async (t, guest) => {
    await using client = await guest.client();
    const lower = await guest.directory('ext4', 'encrypted');
    const [first, second] = [await guest.ecryptfsKey('first'), await guest.ecryptfsKey('second')];
    {
      await using ecryptfs = await guest.mount(request(lower, first), client);
      await client.writeFile({ path: ecryptfs.file('of-the-first'), data: 'first' });
      t.is(await ecryptfs.unmount(), 'ok');
    }
    {
      await using ecryptfs = await guest.mount(request(lower, second), client);
      await client.writeFile({ path: ecryptfs.file('of-the-second'), data: 'second' });
      const path = ecryptfs.file('of-the-first');
      t.is(await client.errno.readFile({ path }), 'ok', 'its key is in the keyring of who reads');
      t.is(text(await client.readFile({ path })), 'first');
      t.is(await ecryptfs.unmount(), 'ok');
    }
    for (const [signature, own, other] of [
      [first, 'of-the-first', 'of-the-second'],
      [second, 'of-the-second', 'of-the-first'],
    ] as const) {
      await using ecryptfs = await guest.mount(request(lower, signature, ONLY_ITS_OWN), client);
      t.is(await client.errno.readFile({ path: ecryptfs.file(own) }), 'ok', own);
      t.is(await client.errno.readFile({ path: ecryptfs.file(other) }), 'EIO', `${other}, for another mount`);
    }
  },
);

guestTest(
  'a file without contents whose key nobody has is not opened, and stays as it is',
  async (t, guest) => {
    await using client = await guest.client();
    const lower = await guest.directory('ext4', 'encrypted');
    const packets = [passphrasePacket({ wrapped: pattern(16, 1) }), signaturePacket({ signature: NOBODYS })];
    const stored = lowerFile({ packets, fileKey: pattern(16, 7), data: new Uint8Array() });
    await client.writeFile({ path: `${lower}/f`, data: stored });
    await using ecryptfs = await guest.mountEcryptfs({ lower }, client);
    const path = ecryptfs.file('f');
    t.is((await client.stat({ path })).size, 0, 'its header says so');
    for (const flags of ['O_RDONLY', 'O_RDWR', 'O_WRONLY|O_TRUNC']) {
      t.is(await client.errno.open({ path, flags }), 'EIO', flags);
    }
    t.is(firstDifference(await client.readFile({ path: `${lower}/f` }), stored), undefined, 'the lower file');
  },
);
