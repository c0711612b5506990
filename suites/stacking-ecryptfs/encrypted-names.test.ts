import { text } from '../lib/bytes.ts';
import { encryptName, passphraseKey } from '../lib/ecryptfs-format.ts';
import { guestTest } from '../lib/guest-test.ts';
import { ecryptfsOptions } from '../lib/stacked-mount.ts';

/** Names below a mount of ecryptfs that encrypts them (`ecryptfs_fnek_sig`). */

const PASSPHRASE = 'fusegate';
/** ENC_NAME_MAX_BLOCKLEN_8_OR_16: what of 255 bytes is left for a name. */
const LONGEST = 143;
const LENGTHS = [1, 14, 15, 16, 31, 100, 142, LONGEST];
/** By names of links. The length of a packet is one byte for the first, and two for the others: the same first byte for up to 447, another for the last. */
const TARGETS = {
  link: 'where/it/leads',
  'far-link': 'where/it/leads/'.repeat(14),
  'farthest-link': 'where/it/leads/'.repeat(46),
};

guestTest(
  'names below ecryptfs are what their format says, computed by another program (E6)',
  async (t, guest) => {
    await using client = await guest.client();
    const lower = await guest.directory('ext4', 'encrypted');
    const key = passphraseKey(PASSPHRASE);
    t.is(await guest.ecryptfsKey(PASSPHRASE), key.signature, 'the key of the mount');
    const options = ecryptfsOptions(key.signature, { namesKey: key.signature });
    const request = { source: lower, type: 'ecryptfs', options };
    const names = LENGTHS.map((length) => 'name'.repeat(40).slice(0, length));
    const first = 'n';
    const below = (name: string): string => `${lower}/${encryptName(name, key)}`;
    {
      await using ecryptfs = await guest.mount(request, client);
      for (const name of names) await client.writeFile({ path: ecryptfs.file(name), data: name });
      await client.mkdir({ path: ecryptfs.file('directory') });
      for (const [name, target] of Object.entries(TARGETS)) {
        await client.symlink({ target, path: ecryptfs.file(name) });
      }
      t.deepEqual(
        await client.readdir({ path: lower }),
        [...names, 'directory', ...Object.keys(TARGETS)].map((name) => encryptName(name, key)).sort(),
      );
      for (const [name, target] of Object.entries(TARGETS)) {
        const path = ecryptfs.file(name);
        t.is(
          await client.readlink({ path: below(name) }),
          encryptName(target, key),
          `${name}: its target, too`,
        );
        t.is(await client.readlink({ path }), target, name);
        t.is((await client.lstat({ path })).size, target.length, `${name}: size`);
      }
      await client.rename({ from: ecryptfs.file('directory'), to: ecryptfs.file('moved') });
      t.is(await client.errno.lstat({ path: below('moved') }), 'ok');
      await client.rmdir({ path: ecryptfs.file('moved') });
      for (const name of Object.keys(TARGETS)) await client.unlink({ path: ecryptfs.file(name) });
      t.is(await ecryptfs.unmount(), 'ok');
    }
    // What another program has named is found.
    await client.rename({ from: below(first), to: below('renamed') });
    await using ecryptfs = await guest.mount(request, client);
    t.deepEqual(await client.readdir({ path: ecryptfs.path }), [...names.slice(1), 'renamed'].sort());
    const fd = await client.open({ path: ecryptfs.path, flags: 'O_RDONLY|O_DIRECTORY' });
    const dots = (await client.readdirFd({ fd, bytes: 4096 })).filter((name) => name.startsWith('.'));
    t.deepEqual(dots.sort(), ['.', '..'], 'the two names that are not encrypted');
    await client.close({ fd });
    t.is(text(await client.readFile({ path: ecryptfs.file('renamed') })), first);
  },
);

guestTest(
  'ecryptfs that encrypts names has shorter ones, and shows none that is not encrypted (E6)',
  async (t, guest) => {
    await using client = await guest.client();
    const lower = await guest.directory('ext4', 'encrypted');
    const key = passphraseKey(PASSPHRASE);
    const signature = await guest.ecryptfsKey(PASSPHRASE);
    const [prefix, packet] = ['ECRYPTFS_FNEK_ENCRYPTED.', encryptName('hidden', key).slice(24)];
    const plain = [
      prefix,
      // A packet of another type, and one behind another prefix.
      `${prefix}E${packet.slice(1)}`,
      `${prefix.toLowerCase()}${packet}`,
      'plain',
      'plain-and-longer-than-the-prefix-of-an-encrypted-name',
    ];
    plain.sort();
    for (const name of plain) await client.writeFile({ path: `${lower}/${name}`, data: name });
    const mount = (namesKey?: string, more: string[] = []) => {
      const options = ecryptfsOptions(signature, { namesKey, more });
      return guest.mount({ source: lower, type: 'ecryptfs', options }, client);
    };
    {
      await using ecryptfs = await mount(signature);
      const length = (path: string) => client.statfs({ path }).then(({ namelen }) => namelen);
      t.is(await length(ecryptfs.path), LONGEST);
      t.is(await length(lower), 255);
      t.is(await client.errno.creat({ path: ecryptfs.file('n'.repeat(LONGEST)) }), 'ok');
      const longer = ecryptfs.file('n'.repeat(LONGEST + 1));
      t.is(await client.errno.creat({ path: longer }), 'ENAMETOOLONG');
      t.is(await client.errno.mkdir({ path: longer }), 'ENAMETOOLONG');
      t.is(await client.errno.lstat({ path: longer }), 'ENAMETOOLONG');
      t.deepEqual(await client.readdir({ path: ecryptfs.path }), ['n'.repeat(LONGEST)]);
      t.is(await client.errno.lstat({ path: ecryptfs.file('plain') }), 'ENOENT');
      t.is(await client.errno.unlink({ path: ecryptfs.file('n'.repeat(LONGEST)) }), 'ok');
    }
    {
      await using ecryptfs = await mount();
      t.deepEqual(
        await client.readdir({ path: ecryptfs.path }),
        plain,
        'without a key for names they are as they are',
      );
      t.is((await client.statfs({ path: ecryptfs.path })).namelen, 255);
    }
    await using view = await mount(signature, ['ecryptfs_encrypted_view']);
    t.deepEqual(
      await client.readdir({ path: view.path }),
      plain,
      'an encrypted view shows names as they are',
    );
  },
);

for (const keyBytes of [24, 32] as const) {
  guestTest(
    `with a key for names of ${keyBytes} bytes they are encrypted with all of it (E6)`,
    async (t, guest) => {
      await using client = await guest.client();
      const lower = await guest.directory('ext4', 'encrypted');
      const key = passphraseKey(PASSPHRASE);
      t.is(await guest.ecryptfsKey(PASSPHRASE), key.signature, 'the key of the mount');
      // That for data has 16 bytes.
      const more = [`ecryptfs_fn_key_bytes=${keyBytes}`];
      const options = ecryptfsOptions(key.signature, { namesKey: key.signature, more });
      const request = { source: lower, type: 'ecryptfs', options };
      const names = ['a-longer-name-of-two-blocks', 'name'];
      const below = names.map((name) => encryptName(name, key, keyBytes)).sort();
      {
        await using ecryptfs = await guest.mount(request, client);
        for (const name of names) await client.mkdir({ path: ecryptfs.file(name) });
        t.deepEqual(
          await client.readdir({ path: lower }),
          below,
          'names below, as another program encrypts them',
        );
        t.is(await ecryptfs.unmount(), 'ok');
      }
      // Whatever the kernel has made of them: these are right.
      for (const name of await client.readdir({ path: lower }))
        await client.rmdir({ path: `${lower}/${name}` });
      for (const name of below) await client.mkdir({ path: `${lower}/${name}` });
      await using ecryptfs = await guest.mount(request, client);
      t.deepEqual(
        await client.readdir({ path: ecryptfs.path }),
        names,
        'names of another program, decrypted',
      );
      t.is(await client.errno.lstat({ path: ecryptfs.file('name') }), 'ok', 'one that is looked up');
    },
  );
}
