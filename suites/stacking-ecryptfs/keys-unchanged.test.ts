import { firstDifference, pattern, text } from '../lib/bytes.ts';
import { ENCRYPTED_KEY_BYTES_AT, KeyringKey, TokenType } from '../lib/ecryptfs-keys.ts';
import { guestTest } from '../lib/guest-test.ts';
import { ecryptfsOptions, type EcryptfsOptions } from '../lib/stacked-mount.ts';

/**
 * A key in the keyring is not where ecryptfs keeps what it makes with it, above all not the keys of files: who may
 * read it finds what was put there. One thing is written into it, how long an encrypted key of a file is.
 */

function withoutLength(payload: Uint8Array): Uint8Array {
  return payload.slice().fill(0, ENCRYPTED_KEY_BYTES_AT, ENCRYPTED_KEY_BYTES_AT + 4);
}

guestTest('a key with which files were made and read has in it what it had before', async (t, guest) => {
  await using client = await guest.client();
  const lower = await guest.directory('ext4', 'encrypted');
  const [signature, namesKey] = ['dddddddddddd0001', 'dddddddddddd0002'];
  await using key = await KeyringKey.add(guest, { signature, key: pattern(64, 17) });
  await using names = await KeyringKey.add(guest, { signature: namesKey, key: pattern(64, 18) });
  const before = { key: await key.payload(), names: await names.payload() };
  t.is(before.key.length, 740);
  const use = async (more: EcryptfsOptions, work: (path: string) => Promise<unknown>) => {
    const options = ecryptfsOptions(signature, more);
    await using ecryptfs = await guest.mount({ source: lower, type: 'ecryptfs', options }, client);
    await work(ecryptfs.file('f'));
    t.is(await ecryptfs.unmount(), 'ok');
  };
  const unchanged = async (when: string) => {
    const now = withoutLength(await key.payload());
    t.is(firstDifference(now, withoutLength(before.key)), undefined, when);
    t.is(firstDifference(await names.payload(), before.names), undefined, `${when}: the key of names`);
  };
  await use({ namesKey }, (path) => client.writeFile({ path, data: 'contents' }));
  await unchanged('a file was made');
  await use({ namesKey }, async (path) => {
    t.is(text(await client.readFile({ path })), 'contents');
  });
  await unchanged('it was read');
});

guestTest('a private key that nobody could encrypt with has in it what it had before', async (t, guest) => {
  await using client = await guest.client();
  const lower = await guest.directory('ext4', 'encrypted');
  const signature = 'dddddddddddd0003';
  // A key of 256 bytes is to be encrypted, and there is none yet.
  const token = { signature, type: TokenType.privateKey, encryptedKey: new Uint8Array(256) };
  await using key = await KeyringKey.add(guest, token);
  const before = await key.payload();
  const options = ecryptfsOptions(signature);
  await using ecryptfs = await guest.mount({ source: lower, type: 'ecryptfs', options }, client);
  t.is(await client.errno.creat({ path: ecryptfs.file('f') }), 'ENOTCONN');
  t.is(firstDifference(await key.payload(), before), undefined, 'also how long an encrypted key is');
});
