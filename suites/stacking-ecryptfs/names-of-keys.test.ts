import { pattern } from '../lib/bytes.ts';
import { encryptName, passphraseKey, type PassphraseKey } from '../lib/ecryptfs-format.ts';
import { AUTH_TOKEN_VERSION, KeyringKey, TokenType } from '../lib/ecryptfs-keys.ts';
import { encryptBlocks, lowerName } from '../lib/ecryptfs-packets.ts';
import { guestTest } from '../lib/guest-test.ts';
import { ecryptfsOptions, type MountRequest } from '../lib/stacked-mount.ts';

/** Names below ecryptfs and the keys that they are encrypted with: keys that come later, several, and none. */

const PASSPHRASE = 'fusegate';
const passphrase = passphraseKey(PASSPHRASE);
const { key, signature } = passphrase;
const ONLY_ITS_OWN = 'ecryptfs_mount_auth_tok_only';

function request(lower: string, namesKey = signature, more: readonly string[] = []): MountRequest {
  return { source: lower, type: 'ecryptfs', options: ecryptfsOptions(signature, { namesKey, more }) };
}

guestTest('what fills a name in front never has a zero, whatever the key for names is', async (t, guest) => {
  await using client = await guest.client();
  await guest.ecryptfsKey(PASSPHRASE);
  const lower = await guest.directory('ext4', 'encrypted');
  // The MD5 of it begins with a zero, and the MD5 of that has one, too: a name begins behind the first zero.
  const zeros: PassphraseKey = { key: new Uint8Array(64).fill(73), signature: 'eeeeeeeeeeee0001' };
  await using _key = await KeyringKey.add(guest, zeros);
  // With 16 bytes in front, and with 31.
  const names = ['fifteen-letters', 'sixteen-letters-'];
  {
    await using ecryptfs = await guest.mount(request(lower, zeros.signature), client);
    for (const name of names) await client.mkdir({ path: ecryptfs.file(name) });
    t.deepEqual(
      await client.readdir({ path: lower }),
      names.map((name) => encryptName(name, zeros)).sort(),
      'as another program encrypts them',
    );
    t.is(await ecryptfs.unmount(), 'ok');
  }
  await using ecryptfs = await guest.mount(request(lower, zeros.signature), client);
  t.deepEqual(await client.readdir({ path: ecryptfs.path }), names);
});

guestTest(
  'a listing that ended at a name whose key was missing goes on there when the key has come',
  async (t, guest) => {
    await using client = await guest.client();
    await guest.ecryptfsKey(PASSPHRASE);
    const lower = await guest.directory('tmpfs', 'encrypted');
    const missing: PassphraseKey = { key: pattern(64, 19), signature: 'eeeeeeeeeeee0002' };
    const names = ['one', 'two', 'three', 'four'];
    const below = new Map(names.map((name) => [encryptName(name, passphrase), name]));
    const foreign = encryptName('foreign', missing);
    for (const each of [...[...below.keys()].slice(0, 2), foreign, ...[...below.keys()].slice(2)]) {
      await client.mkdir({ path: `${lower}/${each}` });
    }
    below.set(foreign, 'foreign');
    const fdOf = (path: string) => client.open({ path, flags: 'O_RDONLY|O_DIRECTORY' });
    const next = (fd: number) => client.readdirFd({ fd, bytes: 8192 });
    const lowerFd = await fdOf(lower);
    const all = (await next(lowerFd)).map((each) => below.get(each) ?? each);
    await client.close({ fd: lowerFd });
    const at = all.indexOf('foreign');

    await using ecryptfs = await guest.mount(request(lower), client);
    const fd = await fdOf(ecryptfs.path);
    t.deepEqual(await next(fd), all.slice(0, at), 'up to it');
    t.deepEqual(await next(fd), [], 'and no further');
    t.is(await client.errno.rmdir({ path: ecryptfs.file('foreign') }), 'ENOENT', 'a name that is not known');
    await using _key = await KeyringKey.add(guest, missing);
    t.deepEqual(await next(fd), all.slice(at), 'from it on');
    t.deepEqual(await next(fd), [], 'to the end');
    await client.close({ fd });
    t.deepEqual(await client.readdir({ path: ecryptfs.path }), [...names, 'foreign'].sort());
  },
);

guestTest(
  'a mount that takes no key but its own shows names of each of them, and makes them with that for names',
  async (t, guest) => {
    await using client = await guest.client();
    await guest.ecryptfsKey(PASSPHRASE);
    const lower = await guest.directory('ext4', 'encrypted');
    const keyOf = (nth: number) => ({ key: pattern(64, 20 + nth), signature: `eeeeeeeeeeee000${3 + nth}` });
    const [second, forNames, another] = [keyOf(0), keyOf(1), keyOf(2)];
    await using _second = await KeyringKey.add(guest, second);
    await using _forNames = await KeyringKey.add(guest, forNames);
    await using _another = await KeyringKey.add(guest, another);
    const of = { first: passphrase, second, 'for-names': forNames, 'of-another': another };
    for (const [name, each] of Object.entries(of)) {
      await client.mkdir({ path: `${lower}/${encryptName(name, each)}` });
    }
    const more = [`ecryptfs_sig=${second.signature}`, ONLY_ITS_OWN];
    await using ecryptfs = await guest.mount(request(lower, forNames.signature, more), client);
    t.deepEqual(await client.readdir({ path: ecryptfs.path }), ['first', 'for-names', 'second']);
    t.is(await client.errno.lstat({ path: ecryptfs.file('for-names') }), 'ok');
    t.is(
      await client.errno.lstat({ path: ecryptfs.file('first') }),
      'ENOENT',
      'a name is looked for as the key for names encrypts it',
    );
    await client.mkdir({ path: ecryptfs.file('made') });
    const made = `${lower}/${encryptName('made', forNames)}`;
    t.is(await client.errno.lstat({ path: made }), 'ok', 'made with the key for names');
  },
);

const TARGET = 'where/it/leads';
/** Signature of no key, and those of keys that names cannot be decrypted with. */
const [NOBODYS, PRIVATE, OF_ANOTHER_VERSION] = ['0123456789abcdef', 'eeeeeeeeeeee0006', 'eeeeeeeeeeee0007'];

/** Targets of links below, by what is the matter with them, and what following them gives. */
const TARGETS: Readonly<Record<string, { readonly target: string; readonly is: string }>> = {
  right: { target: encryptName(TARGET, passphrase), is: 'ok' },
  'of a key that nobody has': { target: encryptName(TARGET, { key, signature: NOBODYS }), is: 'ENOENT' },
  'of a private key': { target: encryptName(TARGET, { key, signature: PRIVATE }), is: 'EOPNOTSUPP' },
  'of a key of another version': {
    target: encryptName(TARGET, { key, signature: OF_ANOTHER_VERSION }),
    is: 'EINVAL',
  },
  // Blowfish, which is a module in other kernels.
  'of a cipher that this kernel has not': {
    target: lowerName({ signature, cipher: 4, encrypted: encryptBlocks(key.subarray(0, 16), pattern(32)) }),
    is: 'ENOENT',
  },
};

guestTest(
  'a link whose target cannot be decrypted says why, and the next one is followed',
  async (t, guest) => {
    await using client = await guest.client();
    await guest.ecryptfsKey(PASSPHRASE);
    await using _private = await KeyringKey.add(guest, { signature: PRIVATE, type: TokenType.privateKey });
    await using _version = await KeyringKey.add(guest, {
      signature: OF_ANOTHER_VERSION,
      version: AUTH_TOKEN_VERSION + 1,
    });
    const lower = await guest.directory('ext4', 'encrypted');
    for (const [name, { target }] of Object.entries(TARGETS)) {
      await client.symlink({ target, path: `${lower}/${encryptName(name, passphrase)}` });
    }
    await using ecryptfs = await guest.mount(request(lower), client);
    for (const [name, { is }] of Object.entries(TARGETS)) {
      const path = ecryptfs.file(name);
      t.is(await client.errno.readlink({ path }), is, name);
      t.is(
        await client.errno.stat({ path: `${path}/f` }),
        is === 'ok' ? 'ENOENT' : is,
        `${name}: on the way`,
      );
    }
    t.is(await client.readlink({ path: ecryptfs.file('right') }), TARGET);
  },
);
