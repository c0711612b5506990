import { bytes, concat, firstDifference, pattern, text } from '../lib/bytes.ts';
import { passphraseKey } from '../lib/ecryptfs-format.ts';
import { KeyringKey, TokenType } from '../lib/ecryptfs-keys.ts';
import {
  decryptBlocks,
  encryptBlocks,
  lowerFile,
  passphrasePacket,
  publicKeyPacket,
  signaturePacket,
} from '../lib/ecryptfs-packets.ts';
import { guestTest } from '../lib/guest-test.ts';
import { ecryptfsOptions, type EcryptfsOptions, type MountRequest } from '../lib/stacked-mount.ts';

/** Mounts with several keys (`ecryptfs_sig` more than once): a file is made for all of them, and opened with any. */

const ONLY_ITS_OWN = 'ecryptfs_mount_auth_tok_only';
/** Signature of no key. */
const NOBODYS = '0123456789abcdef';
/** Where the packets of keys begin in a header, and where in the first of them the encrypted key is. */
const [PACKETS, WRAPPED_AT] = [26, 15];

/** `sig` is short for `ecryptfs_sig`: there is no more room than a page for options. */
function request(lower: string, signatures: readonly string[], more: EcryptfsOptions = {}): MountRequest {
  const [first = '', ...others] = signatures;
  const options = { ...more, more: [...others.map((each) => `sig=${each}`), ...(more.more ?? [])] };
  return { source: lower, type: 'ecryptfs', options: ecryptfsOptions(first, options) };
}

guestTest(
  'a header has a packet for each key of its mount, in the order of the options, and none for that of names',
  async (t, guest) => {
    await using client = await guest.client();
    const keys = ['cccccccccccc0001', 'cccccccccccc0002', 'cccccccccccc0003'].map((signature, nth) => ({
      signature,
      key: pattern(64, 10 + nth),
    }));
    const [one, two, three] = keys as [(typeof keys)[0], (typeof keys)[0], (typeof keys)[0]];
    await using _one = await KeyringKey.add(guest, one);
    await using _two = await KeyringKey.add(guest, two);
    await using _three = await KeyringKey.add(guest, three);
    const namesKey = 'cccccccccccc0004';
    await using _names = await KeyringKey.add(guest, { signature: namesKey, key: pattern(64, 13) });
    for (const order of [[one, two, three], [three, one], [two, two], [one]]) {
      const lower = await guest.directory('ext4', 'encrypted');
      const signatures = order.map(({ signature }) => signature);
      await using ecryptfs = await guest.mount(request(lower, signatures, { namesKey }), client);
      await client.writeFile({ path: ecryptfs.file('f'), data: '' });
      const [name = ''] = await client.readdir({ path: lower });
      const packets = (await client.readFile({ path: `${lower}/${name}` })).subarray(PACKETS);
      const wrapping = (each: (typeof keys)[0]) => each.key.subarray(0, 16);
      const wrapped = packets.subarray(WRAPPED_AT, WRAPPED_AT + 16);
      const fileKey = decryptBlocks(wrapping(order[0] ?? one), wrapped);
      const all = order.flatMap((each) => [
        passphrasePacket({ wrapped: encryptBlocks(wrapping(each), fileKey) }),
        signaturePacket({ signature: each.signature }),
      ]);
      const whole = concat(...all, Uint8Array.of(0));
      t.is(firstDifference(packets.subarray(0, whole.length), whole), undefined, signatures.join());
    }
  },
);

/** Of a passphrase, and of a private key that has a key of files in it, so that nobody is asked to encrypt one. */
const [PASSPHRASE, PRIVATE] = ['cccccccccccc0005', 'cccccccccccc0006'];

interface TooMany {
  readonly signatures: readonly string[];
  readonly keyBytes: 16 | 32;
}

/**
 * A header has two pages, without the 26 bytes that it begins with. Packets of a passphrase take 31 and 24 bytes
 * with a key of 16 bytes, 47 and 24 with one of 32; a byte or two more have to be left for their lengths.
 */
const TOO_MANY: Readonly<Record<string, TooMany>> = {
  'a key too many': { signatures: Array.from({ length: 149 }, () => PASSPHRASE), keyBytes: 16 },
  'a key that has room, and its signature has none': {
    // The packet of the private key would have room.
    signatures: [...Array.from({ length: 115 }, () => PASSPHRASE), PRIVATE],
    keyBytes: 32,
  },
  // Those of a private key take 12 bytes and what is encrypted.
  'a private key too many': {
    signatures: [...Array.from({ length: 148 }, () => PASSPHRASE), PRIVATE, PRIVATE, PRIVATE],
    keyBytes: 16,
  },
};

guestTest(
  'no file is made on a mount that has more keys than a header has room for, and nothing is left of it',
  async (t, guest) => {
    await using client = await guest.client();
    await using _passphrase = await KeyringKey.add(guest, { signature: PASSPHRASE });
    await using _private = await KeyringKey.add(guest, {
      signature: PRIVATE,
      type: TokenType.privateKey,
      encryptedKey: new Uint8Array(32).fill(0x5a),
    });
    for (const [what, { signatures, keyBytes }] of Object.entries(TOO_MANY)) {
      const lower = await guest.directory('ext4', 'encrypted');
      await using ecryptfs = await guest.mount(request(lower, signatures, { keyBytes }), client);
      t.is(await client.errno.creat({ path: ecryptfs.file('f') }), 'EINVAL', what);
      t.deepEqual(await client.readdir({ path: lower }), [], `${what}: nothing is left of it`);
      t.is(
        await client.errno.mkdir({ path: ecryptfs.file('d') }),
        'ok',
        `${what}: directories have no header`,
      );
    }
  },
);

guestTest('a file with as many keys as fill a page is opened with the last of them', async (t, guest) => {
  await using client = await guest.client();
  const lower = await guest.directory('ext4', 'encrypted');
  const [first, last] = ['cccccccccccc0007', 'cccccccccccc0008'];
  await using _last = await KeyringKey.add(guest, { signature: last, key: pattern(64, 14) });
  {
    await using _first = await KeyringKey.add(guest, { signature: first });
    // 55 bytes each: they end with the page.
    const signatures = [...Array.from({ length: 73 }, () => first), last];
    await using ecryptfs = await guest.mount(request(lower, signatures), client);
    await client.writeFile({ path: ecryptfs.file('f'), data: 'for the last' });
    t.is(await ecryptfs.unmount(), 'ok');
  }
  await using ecryptfs = await guest.mount(request(lower, [last]), client);
  t.is(await client.errno.readFile({ path: ecryptfs.file('f') }), 'ok');
  t.is(text(await client.readFile({ path: ecryptfs.file('f') })), 'for the last');
});

/** By which of two keys is revoked. */
const REVOKED: Readonly<Record<string, readonly [string, string]>> = {
  first: ['cccccccccccc0009', 'cccccccccccc000a'],
  second: ['cccccccccccc000b', 'cccccccccccc000c'],
};

for (const [which, signatures] of Object.entries(REVOKED)) {
  guestTest(
    `when the ${which} of two keys of a mount is revoked, files are read with the other, and none is made`,
    async (t, guest) => {
      await using client = await guest.client();
      const lower = await guest.directory('ext4', 'encrypted');
      await using one = await KeyringKey.add(guest, { signature: signatures[0], key: pattern(64, 15) });
      await using two = await KeyringKey.add(guest, { signature: signatures[1], key: pattern(64, 16) });
      const names = ['f', 'g'];
      {
        await using ecryptfs = await guest.mount(request(lower, signatures), client);
        for (const name of names) await client.writeFile({ path: ecryptfs.file(name), data: name });
        t.is(await ecryptfs.unmount(), 'ok');
      }
      await using ecryptfs = await guest.mount(request(lower, signatures, { more: [ONLY_ITS_OWN] }), client);
      await (which === 'first' ? one : two).revoke();
      t.is(await client.errno.readFile({ path: ecryptfs.file('f') }), 'ok', 'before it is found out');
      for (const time of ['when it is found out', 'from then on']) {
        t.is(await client.errno.creat({ path: ecryptfs.file('made') }), 'EINVAL', time);
        t.deepEqual(await client.readdir({ path: lower }), names, `${time}: nothing is left of it`);
      }
      for (const name of names) {
        const path = ecryptfs.file(name);
        t.is(await client.errno.readFile({ path }), 'ok', name);
        t.is(text(await client.readFile({ path })), name);
      }
    },
  );
}

/** Keys in the packets of a file, of which one opens it: in any order. */
const ORDERS = [
  ['nobodys', 'private', 'own'],
  ['nobodys', 'own', 'private'],
  ['private', 'nobodys', 'own'],
  ['private', 'own', 'nobodys'],
  ['own', 'nobodys', 'private'],
  ['own', 'private', 'nobodys'],
] as const;

guestTest(
  'a file for three keys is opened with the one there is, in whichever order they are',
  async (t, guest) => {
    await using client = await guest.client();
    const lower = await guest.directory('ext4', 'encrypted');
    const { key, signature } = passphraseKey('fusegate');
    t.is(await guest.ecryptfsKey('fusegate'), signature, 'the key of the mount');
    // It is found, and there is no daemon that would decrypt with it.
    const privates = 'cccccccccccc000d';
    await using _private = await KeyringKey.add(guest, { signature: privates, type: TokenType.privateKey });
    const fileKey = pattern(16, 7);
    const wrapped = encryptBlocks(key.subarray(0, 16), fileKey);
    const packets = {
      nobodys: [passphrasePacket({ wrapped: pattern(16, 1) }), signaturePacket({ signature: NOBODYS })],
      private: [publicKeyPacket({ signature: privates, encryptedBytes: 256 })],
      own: [passphrasePacket({ wrapped }), signaturePacket({ signature })],
    };
    const data = bytes('read all the same');
    for (const order of ORDERS) {
      const file = lowerFile({ packets: order.flatMap((each) => packets[each]), fileKey, data });
      await client.writeFile({ path: `${lower}/${order.join()}`, data: file });
    }
    await using ecryptfs = await guest.mountEcryptfs({ lower }, client);
    for (const order of ORDERS) {
      const path = ecryptfs.file(order.join());
      t.is(await client.errno.readFile({ path }), 'ok', order.join());
      t.is(firstDifference(await client.readFile({ path }), data), undefined, order.join());
    }
  },
);
