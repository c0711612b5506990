import { aclFor } from '../lib/access-control-list.ts';
import { concat, firstDifference, pattern } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import { decryptLowerFile, passphraseKey } from '../lib/ecryptfs-format.ts';
import {
  encryptBlocks,
  lowerFile,
  passphrasePacket,
  publicKeyPacket,
  signaturePacket,
} from '../lib/ecryptfs-packets.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';
import { ecryptfsOptions, type StackedMount } from '../lib/stacked-mount.ts';

/** How much an encrypted view (`ecryptfs_encrypted_view`) shows of a file: the header, wherever it is, and all data. */

const PASSPHRASE = 'fusegate';
const PAGE = 4096;
/** Two extents. */
const HEADER = 2 * PAGE;
/** By which a file is looked up, one after the other. */
const NAMES = ['first', 'second', 'third', 'fourth'];
const DATA = pattern(3 * PAGE + 100);

/** An encrypted view of a file with these names, which a mount with the same options has made. */
async function viewOf(
  guest: TestGuest,
  client: Client,
  ...more: string[]
): Promise<{ lower: string; view: StackedMount }> {
  const lower = await guest.directory('ext4', 'encrypted');
  const signature = await guest.ecryptfsKey(PASSPHRASE);
  const [first = '', ...others] = NAMES;
  {
    const options = ecryptfsOptions(signature, { more });
    await using ecryptfs = await guest.mount({ source: lower, type: 'ecryptfs', options }, client);
    await client.writeFile({ path: ecryptfs.file(first), data: DATA });
  }
  for (const name of others) await client.link({ from: `${lower}/${first}`, to: `${lower}/${name}` });
  const options = ecryptfsOptions(signature, { more: [...more, 'ecryptfs_encrypted_view'] });
  return { lower, view: await guest.mount({ source: lower, type: 'ecryptfs', options }, client) };
}

guestTest(
  'an encrypted view of a file with its header in itself is all of the lower file, also of one that has grown',
  async (t, guest) => {
    await using client = await guest.client();
    const { lower, view } = await viewOf(guest, client);
    await using _mounted = view;
    const stored = await client.readFile({ path: `${lower}/first` });
    t.is(stored.length, HEADER + 4 * PAGE, 'a header and whole pages');
    const isAllOf = async (name: string, whole: Uint8Array) => {
      const path = view.file(name);
      t.is((await client.stat({ path })).size, whole.length, `${name}: size`);
      const seen = await client.readFile({ path });
      t.is(seen.length, whole.length, `${name}: what can be read`);
      t.is(firstDifference(seen, whole), undefined, `${name}: contents`);
    };
    for (const name of ['first', 'second', 'third']) await isAllOf(name, stored);
    // How large it is now is known with the next name that is looked up.
    const added = pattern(PAGE, 3);
    await client.writeFile({ path: `${lower}/first`, data: added, flags: 'O_WRONLY|O_APPEND' });
    await isAllOf('fourth', concat(stored, added));
  },
);

guestTest(
  'an encrypted view of a file with its header in an attribute has room for it once, however often it is looked up',
  async (t, guest) => {
    await using client = await guest.client();
    const { lower, view } = await viewOf(guest, client, 'ecryptfs_xattr_metadata');
    await using _mounted = view;
    const below = (await client.stat({ path: `${lower}/first` })).size;
    t.is(below, 4 * PAGE, 'the lower file has data alone');
    const [first = '', ...others] = NAMES;
    // Where the header is, is known at the latest when it is open.
    await client.readFile({ path: view.file(first) });
    for (const name of others) {
      t.is((await client.stat({ path: view.file(name) })).size, HEADER + below, `${name}: size`);
    }
    const seen = await client.readFile({ path: view.file(first) });
    t.is(seen.length, HEADER + below, 'what can be read');
    const { size, data } = decryptLowerFile(seen, passphraseKey(PASSPHRASE));
    t.is(size, DATA.length, 'the size in the header');
    t.is(firstDifference(data.subarray(0, DATA.length), DATA), undefined, 'the data, to the last page');
  },
);

/** Signature of no key. */
const NOBODYS = '0123456789abcdef';
/** Of a header: that the data are encrypted, and that it is in an attribute. */
const [ENCRYPTED, IN_ATTRIBUTE] = [2, 4];
/** Where it tells its marker, how large its extents are, how many, and where its packets begin. */
const AT = { marker: 8, extentBytes: 20, extents: 24, packets: 26 } as const;
/** Of a header by another program: three pages, in extents such as ecryptfs itself does not make. */
const [SMALL, MANY] = [512, 24];

guestTest(
  'an encrypted view tells how long a header by another program is in its own extents, and the data are behind it',
  async (t, guest) => {
    await using client = await guest.client();
    const lower = await guest.directory('ext4', 'encrypted');
    const passphrase = passphraseKey(PASSPHRASE);
    const { key, signature } = passphrase;
    t.is(await guest.ecryptfsKey(PASSPHRASE), signature, 'the key of the mount');
    const fileKey = pattern(16, 7);
    const packets = [
      passphrasePacket({ wrapped: encryptBlocks(key.subarray(0, 16), fileKey) }),
      signaturePacket({ signature }),
      publicKeyPacket({ signature: NOBODYS, encryptedBytes: 16 }),
    ];
    const sizes = { extentBytes: SMALL, extents: MANY };
    const whole = lowerFile({ packets, fileKey, flags: ENCRYPTED | IN_ATTRIBUTE, ...sizes, data: DATA });
    const data = whole.subarray(SMALL * MANY);
    await client.writeFile({ path: `${lower}/f`, data });
    const header = whole.subarray(0, AT.packets + concat(...packets).length);
    await client.setxattr({ path: `${lower}/f`, name: 'user.ecryptfs', data: header });
    const options = ecryptfsOptions(signature, { more: ['ecryptfs_encrypted_view'] });
    await using view = await guest.mount({ source: lower, type: 'ecryptfs', options }, client);
    const seen = await client.readFile({ path: view.file('f') });
    const marker = (of: Uint8Array) => of.subarray(AT.marker, AT.marker + 8);
    t.deepEqual(marker(seen), marker(header), 'it begins with the header, nothing is decrypted');
    const told = Buffer.from(seen);
    t.is(told.readUInt32BE(AT.extentBytes), PAGE, 'how large an extent is');
    t.is(told.readUInt16BE(AT.extents), (SMALL * MANY) / PAGE, 'how many the header has');
    // The view may end a page before the data do: how long the header is, is known when it has been read.
    const shown = seen.subarray(SMALL * MANY, SMALL * MANY + 2 * PAGE);
    t.is(
      firstDifference(shown, data.subarray(0, 2 * PAGE)),
      undefined,
      'the data of the lower file behind it',
    );
    const { data: decrypted } = decryptLowerFile(seen, passphrase);
    const clear = decrypted.subarray(0, 2 * PAGE);
    t.is(firstDifference(clear, DATA.subarray(0, 2 * PAGE)), undefined, 'which can be decrypted');
  },
);

guestTest('an encrypted view tells the access control lists of files', async (t, guest) => {
  await using client = await guest.client();
  const { lower, view } = await viewOf(guest, client);
  await using _mounted = view;
  const list = { name: 'system.posix_acl_access', data: aclFor([1500], 6) };
  await client.setxattr({ path: `${lower}/first`, ...list });
  const told = { path: view.file('first'), name: list.name };
  t.is(await client.errno.getxattr(told), 'ok', 'there is one');
  t.deepEqual(Buffer.from(await client.getxattr(told)), Buffer.from(list.data), 'that of the lower file');
});
