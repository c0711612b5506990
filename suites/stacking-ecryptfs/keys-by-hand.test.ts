import { bytes, concat, firstDifference, pattern, text } from '../lib/bytes.ts';
import { passphraseKey } from '../lib/ecryptfs-format.ts';
import { AUTH_TOKEN_VERSION, KeyringKey, TokenType, type AuthToken } from '../lib/ecryptfs-keys.ts';
import {
  encryptBlocks,
  lowerFile,
  passphrasePacket,
  publicKeyPacket,
  signaturePacket,
} from '../lib/ecryptfs-packets.ts';
import { eventually } from '../lib/eventually.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';
import { ecryptfsOptions, type MountRequest } from '../lib/stacked-mount.ts';

/** Keys in the keyring that no tool would make, that end while they are in use, and those of public keys. */

const PASSPHRASE = 'fusegate';
/** Where the packets of keys begin in a header. */
const PACKETS = 26;

function request(lower: string, signature: string): MountRequest {
  return { source: lower, type: 'ecryptfs', options: ecryptfsOptions(signature) };
}

const TOKENS: Readonly<
  Record<string, { readonly token: Omit<AuthToken, 'signature'>; readonly is: string }>
> = {
  'as it is made': { token: {}, is: 'ok' },
  'of another major version': { token: { version: AUTH_TOKEN_VERSION | 0x0100 }, is: 'EINVAL' },
  'of an earlier minor version': { token: { version: AUTH_TOKEN_VERSION - 1 }, is: 'EINVAL' },
  'of a later minor version': { token: { version: AUTH_TOKEN_VERSION + 1 }, is: 'EINVAL' },
  'of a private key': { token: { type: TokenType.privateKey }, is: 'ok' },
  'of a kind that there is not': { token: { type: 2 }, is: 'EINVAL' },
};

guestTest('ecryptfs is mounted with keys of its version, and of the two kinds it has', async (t, guest) => {
  await using client = await guest.client();
  const lower = await guest.directory('ext4', 'encrypted');
  for (const [what, { token, is }] of Object.entries(TOKENS)) {
    const signature = 'aaaaaaaaaaaa0001';
    await using _key = await KeyringKey.add(guest, { signature, ...token });
    t.is(await guest.mountErrno(request(lower, signature), client), is, what);
  }
});

interface End {
  readonly signature: string;
  readonly end: (guest: TestGuest, key: KeyringKey, signature: string) => Promise<unknown>;
  /** What making a file is then: the first time, and from the second time on. */
  readonly made: readonly [string, string];
  /** What another mount with it is. */
  readonly mounted: string;
}

/** What becomes of a key while a mount has it. Only one that has expired is asked for again. */
const ENDS: Readonly<Record<string, End>> = {
  revoked: {
    signature: 'aaaaaaaaaaaa0002',
    end: (_guest, key) => key.revoke(),
    made: ['EINVAL', 'EINVAL'],
    mounted: 'ENOENT',
  },
  expired: {
    signature: 'aaaaaaaaaaaa0003',
    end: (_guest, key) => key.letExpire(),
    made: ['ETIME', 'ETIME'],
    mounted: 'ENOENT',
  },
  invalidated: {
    signature: 'aaaaaaaaaaaa0007',
    end: (_guest, key) => key.invalidate(),
    made: ['ENOENT', 'EINVAL'],
    mounted: 'ENOENT',
  },
  'replaced by one of another version': {
    signature: 'aaaaaaaaaaaa0008',
    end: (guest, _key, signature) => KeyringKey.add(guest, { signature, version: AUTH_TOKEN_VERSION + 1 }),
    made: ['EINVAL', 'EINVAL'],
    mounted: 'EINVAL',
  },
};

for (const [what, { signature, end, made, mounted }] of Object.entries(ENDS)) {
  guestTest(`a key that is ${what} while ecryptfs is mounted is of no use any more`, async (t, guest) => {
    await using client = await guest.client();
    const lower = await guest.directory('ext4', 'encrypted');
    await using key = await KeyringKey.add(guest, { signature });
    {
      await using ecryptfs = await guest.mount(request(lower, signature), client);
      for (const name of ['known', 'unknown']) {
        await client.writeFile({ path: ecryptfs.file(name), data: name });
      }
      t.is(await ecryptfs.unmount(), 'ok');
    }
    await using ecryptfs = await guest.mount(request(lower, signature), client);
    t.is(text(await client.readFile({ path: ecryptfs.file('known') })), 'known');
    await end(guest, key, signature);
    const path = ecryptfs.file('made');
    const making = async (): Promise<string> => {
      const errno = await client.errno.creat({ path });
      if (errno === 'ok') await client.unlink({ path });
      return errno;
    };
    t.is(await eventually(making, (errno) => errno !== 'ok', 10_000), made[0], 'a file is made');
    t.is(await making(), made[1], 'and again');
    t.deepEqual(await client.readdir({ path: lower }), ['known', 'unknown'], 'nothing is left of it');
    t.is(
      await client.errno.readFile({ path: ecryptfs.file('unknown') }),
      'EIO',
      'a file that was not open yet',
    );
    t.is(text(await client.readFile({ path: ecryptfs.file('known') })), 'known', 'a file that was');
    for (const [name, is] of [
      ['unknown', 'EIO'],
      ['known', 'ok'],
    ] as const) {
      t.is(await client.errno.chmod({ path: ecryptfs.file(name), mode: 0o640 }), is, `mode: ${name}`);
      t.is(await client.errno.truncate({ path: ecryptfs.file(name), length: 3 }), is, `size: ${name}`);
    }
    t.is(text(await client.readFile({ path: ecryptfs.file('known') })), 'kno', 'what is left of it');
    t.is(await guest.mountErrno(request(lower, signature), client), mounted, 'another mount');
  });
}

guestTest(
  'a key that has the key of files in it, encrypted, is what their headers have',
  async (t, guest) => {
    await using client = await guest.client();
    const lower = await guest.directory('ext4', 'encrypted');
    const signature = 'aaaaaaaaaaaa0004';
    const [encryptedKey, salt] = [pattern(16, 3), pattern(8, 5)];
    await using _key = await KeyringKey.add(guest, { signature, encryptedKey, salt });
    await using ecryptfs = await guest.mount(request(lower, signature), client);
    await client.writeFile({ path: ecryptfs.file('f'), data: '' });
    const header = await client.readFile({ path: `${lower}/f` });
    const packets = concat(
      passphrasePacket({ wrapped: encryptedKey, salt }),
      signaturePacket({ signature }),
      Uint8Array.of(0),
    );
    t.deepEqual(header.subarray(PACKETS, PACKETS + packets.length), packets);
  },
);

/** Of a private key, in the keyring. */
const PRIVATE = 'aaaaaaaaaaaa0005';

async function privateKey(guest: TestGuest, more: Partial<AuthToken> = {}): Promise<KeyringKey> {
  return KeyringKey.add(guest, { signature: PRIVATE, type: TokenType.privateKey, ...more });
}

guestTest(
  'without a daemon no file is made for a private key, unless its key is encrypted',
  async (t, guest) => {
    await using client = await guest.client();
    const lower = await guest.directory('ext4', 'encrypted');
    {
      await using _key = await privateKey(guest);
      await using ecryptfs = await guest.mount(request(lower, PRIVATE), client);
      // The kernel is built without a device for the daemon to listen at.
      t.is(await client.errno.creat({ path: ecryptfs.file('f') }), 'ENOTCONN');
      t.deepEqual(await client.readdir({ path: lower }), [], 'nothing is left of it');
    }
    await using _key = await privateKey(guest, { encryptedKey: new Uint8Array(512).fill(0x5a) });
    {
      await using ecryptfs = await guest.mount(request(lower, PRIVATE), client);
      await client.writeFile({ path: ecryptfs.file('f'), data: 'contents' });
      t.is(text(await client.readFile({ path: ecryptfs.file('f') })), 'contents');
      t.is(await ecryptfs.unmount(), 'ok');
    }
    const header = await client.readFile({ path: `${lower}/f` });
    const [type] = publicKeyPacket({ signature: PRIVATE, encryptedBytes: 1 });
    t.is(header[PACKETS], type, 'a packet for a public key');
    await using ecryptfs = await guest.mount(request(lower, PRIVATE), client);
    t.is(await client.errno.readFile({ path: ecryptfs.file('f') }), 'EIO', 'nobody there to decrypt its key');
  },
);

guestTest(
  'a private key that has the key of files in it, encrypted, is what their headers have',
  async (t, guest) => {
    await using client = await guest.client();
    const lower = await guest.directory('ext4', 'encrypted');
    const packet = publicKeyPacket({ signature: PRIVATE, encryptedBytes: 256 });
    await using _key = await privateKey(guest, { encryptedKey: packet.subarray(-256) });
    await using ecryptfs = await guest.mount(request(lower, PRIVATE), client);
    await client.writeFile({ path: ecryptfs.file('f'), data: '' });
    const header = await client.readFile({ path: `${lower}/f` });
    t.is(header[PACKETS], packet[0], 'a packet for a public key');
    t.is(firstDifference(header.subarray(PACKETS, PACKETS + packet.length), packet), undefined);
    t.is(header[PACKETS + packet.length], 0, 'and nothing behind it');
  },
);

guestTest(
  'a file for a private key and a passphrase is read with what there is of them',
  async (t, guest) => {
    await using client = await guest.client();
    const lower = await guest.directory('ext4', 'encrypted');
    const { key, signature } = passphraseKey(PASSPHRASE);
    t.is(await guest.ecryptfsKey(PASSPHRASE), signature, 'the key of the mount');
    await using _key = await privateKey(guest);
    const fileKey = pattern(16, 7);
    const own = [
      passphrasePacket({ wrapped: encryptBlocks(key.subarray(0, 16), fileKey) }),
      signaturePacket({ signature }),
    ];
    const forPrivate = publicKeyPacket({ signature: PRIVATE, encryptedBytes: 256 });
    const data = bytes('read all the same');
    for (const [name, packets] of Object.entries({
      'private key first': [forPrivate, ...own],
      'passphrase first': [...own, forPrivate],
      'private key alone': [forPrivate],
    })) {
      await client.writeFile({ path: `${lower}/${name}`, data: lowerFile({ packets, fileKey, data }) });
    }
    await using ecryptfs = await guest.mountEcryptfs({ lower }, client);
    for (const name of ['private key first', 'passphrase first']) {
      const path = ecryptfs.file(name);
      t.is(await client.errno.readFile({ path }), 'ok', name);
      t.is(firstDifference(await client.readFile({ path }), data), undefined, name);
    }
    t.is(await client.errno.readFile({ path: ecryptfs.file('private key alone') }), 'EIO');
  },
);

guestTest(
  'a file made with a key that has one of files in it, encrypted, is there again after another mount',
  async (t, guest) => {
    await using client = await guest.client();
    const lower = await guest.directory('ext4', 'encrypted');
    const signature = 'aaaaaaaaaaaa0009';
    const data = pattern(5000);
    await using _key = await KeyringKey.add(guest, { signature, encryptedKey: pattern(16, 3) });
    {
      await using ecryptfs = await guest.mount(request(lower, signature), client);
      const path = ecryptfs.file('f');
      await client.writeFile({ path, data });
      t.is(firstDifference(await client.readFile({ path }), data), undefined, 'while it is mounted');
      t.is(await ecryptfs.unmount(), 'ok');
    }
    await using ecryptfs = await guest.mount(request(lower, signature), client);
    const path = ecryptfs.file('f');
    t.is((await client.stat({ path })).size, data.length);
    t.is(firstDifference(await client.readFile({ path }), data), undefined, 'mounted anew');
  },
);
