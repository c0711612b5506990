import { bytes, concat } from '../lib/bytes.ts';
import { driverOfAes } from '../lib/ciphers.ts';
import type { Client } from '../lib/client.ts';
import { encryptName, passphraseKey } from '../lib/ecryptfs-format.ts';
import { KeyringKey, TokenType } from '../lib/ecryptfs-keys.ts';
import { encryptBlocks, lowerName, type NamePacket } from '../lib/ecryptfs-packets.ts';
import { u32 } from '../lib/entry-answer.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';
import { WITHOUT_PASSTHROUGH } from '../lib/registration.ts';
import { ecryptfsOptions, type StackedMount } from '../lib/stacked-mount.ts';

/** Names below a mount that encrypts them, by another program: those that are none are not shown. */

const PASSPHRASE = 'fusegate';
const passphrase = passphraseKey(PASSPHRASE);
const { key, signature } = passphrase;
/** A signature of no key, and one of a private key in the keyring. */
const [NOBODYS, PRIVATE] = ['0123456789abcdef', 'aaaaaaaaaaaa0006'];

async function mountWithNames(
  guest: TestGuest,
  client: Client,
  lower: string,
  { namesKey = signature, more = [] }: { readonly namesKey?: string; readonly more?: readonly string[] } = {},
): Promise<StackedMount> {
  await guest.ecryptfsKey(PASSPHRASE);
  const options = ecryptfsOptions(signature, { namesKey, more });
  return guest.mount({ source: lower, type: 'ecryptfs', options }, client);
}

/** Behind 16 bytes and a zero, and with as many more in front as make whole blocks. */
function encrypted(name: string): Uint8Array {
  const blocks = Math.ceil((17 + name.length) / 16) * 16;
  return blocksOf(concat(new Uint8Array(blocks - 1 - name.length).fill(0x2a), Uint8Array.of(0), bytes(name)));
}

function blocksOf(data: Uint8Array): Uint8Array {
  return encryptBlocks(key.subarray(0, 16), data);
}

/** By name: what is wrong with a packet that would be of that name otherwise. */
const WRONG: Readonly<Record<string, Partial<NamePacket>>> = {
  'length-is-none': { length: [224] },
  'length-in-five-bytes': { length: [255] },
  'has-no-name': { length: [9] },
  'goes-beyond-its-end': { length: [9 + 48 + 16] },
  'cipher-there-is-not': { cipher: 1 },
  'no-whole-blocks': { encrypted: encrypted('no-whole-blocks').subarray(0, 31) },
  'no-zero': { encrypted: blocksOf(new Uint8Array(32).fill(0x2a)) },
  empty: { encrypted: blocksOf(concat(new Uint8Array(31).fill(0x2a), Uint8Array.of(0))) },
  'too-short': { signature: signature.slice(0, 12), encrypted: new Uint8Array(), length: [10] },
};

guestTest('names below ecryptfs whose packets are wrong are not shown', async (t, guest) => {
  await using client = await guest.client();
  const lower = await guest.directory('ext4', 'encrypted');
  const right = lowerName({ signature, encrypted: encrypted('right') });
  await client.writeFile({ path: `${lower}/${right}`, data: '' });
  for (const [name, part] of Object.entries(WRONG)) {
    const below = lowerName({ signature, encrypted: encrypted(name), ...part });
    await client.writeFile({ path: `${lower}/${below}`, data: '' });
  }
  t.is((await client.readdir({ path: lower })).length, Object.keys(WRONG).length + 1, 'all are there');
  await using ecryptfs = await mountWithNames(guest, client, lower);
  t.deepEqual(await client.readdir({ path: ecryptfs.path }), ['right']);
});

/** Names that ecryptfs has not the means to decrypt. */
const FOREIGN: Readonly<Record<string, Partial<NamePacket>>> = {
  'the signature of a key that nobody has': { signature: NOBODYS },
  'the signature of a private key': { signature: PRIVATE },
  // Blowfish, which is a module in other kernels.
  'a cipher that this kernel has not': { cipher: 4 },
};

for (const [what, part] of Object.entries(FOREIGN)) {
  guestTest(`a listing of ecryptfs ends at a name with ${what}`, async (t, guest) => {
    await using client = await guest.client();
    await using _key = await KeyringKey.add(guest, { signature: PRIVATE, type: TokenType.privateKey });
    const lower = await guest.directory('tmpfs', 'encrypted');
    const foreign = lowerName({ signature, encrypted: encrypted('foreign'), ...part });
    const names = ['one', 'two', 'three', 'four'];
    const plain = new Map(names.map((name) => [encryptName(name, passphrase), name]));
    for (const below of [...[...plain.keys()].slice(0, 2), foreign, ...[...plain.keys()].slice(2)]) {
      await client.mkdir({ path: `${lower}/${below}` });
    }
    const listed = async (path: string) => {
      const fd = await client.open({ path, flags: 'O_RDONLY|O_DIRECTORY' });
      const all = await client.readdirFd({ fd, bytes: 8192 });
      await client.close({ fd });
      return all;
    };
    const below = await listed(lower);
    t.true(below.includes(foreign));
    const before = below.slice(0, below.indexOf(foreign));
    await using ecryptfs = await mountWithNames(guest, client, lower);
    t.deepEqual(
      await listed(ecryptfs.path),
      before.map((name) => plain.get(name) ?? name),
    );
    await client.rmdir({ path: `${lower}/${foreign}` });
    t.deepEqual(await client.readdir({ path: ecryptfs.path }), names.toSorted(), 'without it all are there');
  });
}

guestTest(
  'a mount that takes no key but its own shows no name of another, and all the rest',
  async (t, guest) => {
    await using client = await guest.client();
    const lower = await guest.directory('tmpfs', 'encrypted');
    const another = passphraseKey('another');
    await guest.ecryptfsKey('another');
    for (const below of [encryptName('own', passphrase), encryptName('of-another', another)]) {
      await client.mkdir({ path: `${lower}/${below}` });
    }
    {
      await using ecryptfs = await mountWithNames(guest, client, lower);
      t.deepEqual(
        await client.readdir({ path: ecryptfs.path }),
        ['of-another', 'own'],
        'with every key there is',
      );
    }
    await using ecryptfs = await mountWithNames(guest, client, lower, {
      more: ['ecryptfs_mount_auth_tok_only'],
    });
    t.deepEqual(await client.readdir({ path: ecryptfs.path }), ['own']);
  },
);

/** Options that are mounted with and no name can be encrypted with. */
const USELESS: Readonly<
  Record<string, { readonly options: Parameters<typeof mountWithNames>[3]; readonly is: string }>
> = {
  'no length of a key for AES': { options: { more: ['ecryptfs_fn_key_bytes=17'] }, is: 'EINVAL' },
  'a private key for names': { options: { namesKey: PRIVATE }, is: 'EOPNOTSUPP' },
};

guestTest('with a key for names that cannot encrypt them no name is made or found', async (t, guest) => {
  await using client = await guest.client();
  await using _key = await KeyringKey.add(guest, { signature: PRIVATE, type: TokenType.privateKey });
  const lower = await guest.directory('ext4', 'encrypted');
  await client.mkdir({ path: `${lower}/${encryptName('d', passphrase)}` });
  for (const [what, { options, is }] of Object.entries(USELESS)) {
    await using ecryptfs = await mountWithNames(guest, client, lower, options);
    t.is(await client.errno.mkdir({ path: ecryptfs.file('made') }), is, what);
    t.is(await client.errno.lstat({ path: ecryptfs.file('d') }), is, what);
  }
  {
    await using ecryptfs = await mountWithNames(
      guest,
      client,
      lower,
      USELESS['no length of a key for AES']?.options,
    );
    t.deepEqual(await client.readdir({ path: ecryptfs.path }), [], 'nor shown');
  }
  await using ecryptfs = await mountWithNames(guest, client, lower);
  t.is(await client.errno.lstat({ path: ecryptfs.file('d') }), 'ok');
  t.deepEqual(await client.readdir({ path: ecryptfs.path }), ['d'], 'nothing was made');
});

guestTest('with a key for names that is revoked no name is made or found any more', async (t, guest) => {
  await using client = await guest.client();
  const namesKey = 'bbbbbbbbbbbb0009';
  await using revoked = await KeyringKey.add(guest, { signature: namesKey });
  const lower = await guest.directory('ext4', 'encrypted');
  await using ecryptfs = await mountWithNames(guest, client, lower, { namesKey });
  await client.mkdir({ path: ecryptfs.file('before') });
  await revoked.revoke();
  t.is(await client.errno.mkdir({ path: ecryptfs.file('first') }), 'EKEYREVOKED', 'when it is found out');
  t.is(await client.errno.mkdir({ path: ecryptfs.file('second') }), 'EINVAL', 'from then on');
  t.is(
    await client.errno.lstat({ path: ecryptfs.file('third') }),
    'EINVAL',
    'a name that nobody asked for yet',
  );
  t.is((await client.readdir({ path: lower })).length, 1, 'nothing was made');
});

guestTest('a cipher that packets have no number for encrypts no names', async (t, guest) => {
  await using client = await guest.client();
  const driver = await driverOfAes(client);
  guest.needsBuilt(driver !== undefined && driver !== 'aes', 'a driver of AES with a name of its own');
  const lower = await guest.directory('ext4', 'encrypted');
  await using ecryptfs = await mountWithNames(guest, client, lower, {
    more: [`ecryptfs_fn_cipher=${driver ?? ''}`],
  });
  t.is(await client.errno.mkdir({ path: ecryptfs.file('d') }), 'EINVAL');
  t.deepEqual(await client.readdir({ path: lower }), []);
});

guestTest('without a length of the key for names, it is that of the key for data', async (t, guest) => {
  await using client = await guest.client();
  const lower = await guest.directory('ext4', 'encrypted');
  await guest.ecryptfsKey(PASSPHRASE);
  const options = [
    ecryptfsOptions(signature),
    `ecryptfs_fnek_sig=${signature}`,
    'ecryptfs_fn_cipher=aes',
  ].join(',');
  await using ecryptfs = await guest.mount({ source: lower, type: 'ecryptfs', options }, client);
  await client.mkdir({ path: ecryptfs.file('d') });
  t.deepEqual(await client.readdir({ path: lower }), [encryptName('d', passphrase)]);
});

guestTest(
  'names are encrypted with as much of a key as the mount says for them, whatever it says for data',
  async (t, guest) => {
    await using client = await guest.client();
    const lower = await guest.directory('ext4', 'encrypted');
    await guest.ecryptfsKey(PASSPHRASE);
    // Of the key for names 16 bytes.
    const options = ecryptfsOptions(signature, { namesKey: signature, keyBytes: 32 });
    await using ecryptfs = await guest.mount({ source: lower, type: 'ecryptfs', options }, client);
    t.is(await client.errno.mkdir({ path: ecryptfs.file('d') }), 'ok');
    t.deepEqual(await client.readdir({ path: lower }), [encryptName('d', passphrase)], 'below');
    t.deepEqual(await client.readdir({ path: ecryptfs.path }), ['d'], 'on ecryptfs');
  },
);

guestTest('a link below ecryptfs whose target is not encrypted has none on it', async (t, guest) => {
  await using client = await guest.client();
  const lower = await guest.directory('ext4', 'encrypted');
  for (const [name, target] of [
    ['plain', 'where/it/leads'],
    ['encrypted', encryptName('where/it/leads', passphrase)],
  ] as const) {
    await client.symlink({ target, path: `${lower}/${encryptName(name, passphrase)}` });
  }
  await using ecryptfs = await mountWithNames(guest, client, lower);
  t.is(await client.errno.readlink({ path: ecryptfs.file('plain') }), 'EINVAL');
  t.is(await client.errno.lstat({ path: ecryptfs.file('plain') }), 'EINVAL');
  t.is(await client.readlink({ path: ecryptfs.file('encrypted') }), 'where/it/leads');
  t.is((await client.lstat({ path: ecryptfs.file('encrypted') })).size, 14);
});

/** In `fuse_statfs_out`: the longest name. */
const NAMELEN_AT = 44;
/** By the longest name below. 255 has an answer of its own; 47 is what prefix and packet take of all others. */
const LONGEST: Readonly<Record<number, number>> = { 255: 143, 254: 126, 200: 85, 100: 10, 60: 0 };

guestTest(
  'the longest name that ecryptfs encrypts is as long as one below leaves room for',
  async (t, guest) => {
    await using client = await guest.client();
    await using fuse = await guest.mountFuse({ passthrough: 'off', init: WITHOUT_PASSTHROUGH });
    await using ecryptfs = await mountWithNames(guest, client, fuse.path);
    for (const [below, longest] of Object.entries(LONGEST)) {
      const action = { do: 'patch', at: NAMELEN_AT, bytes: u32(Number(below)) } as const;
      const restore = await fuse.rule({ match: { opcode: 'STATFS' }, action });
      t.is((await client.statfs({ path: ecryptfs.path })).namelen, longest, `${below} below`);
      await restore();
    }
    const known = await fuse.fail('STATFS', 'EIO');
    t.is(await client.errno.statfs({ path: ecryptfs.path }), 'EIO', 'what the server says of it');
    await known();
  },
);
