import { bytes, firstDifference, pattern, text } from '../lib/bytes.ts';
import { decryptLowerFile, passphraseKey } from '../lib/ecryptfs-format.ts';
import { encryptBlocks, lowerFile, passphrasePacket, signaturePacket } from '../lib/ecryptfs-packets.ts';
import { guestTest } from '../lib/guest-test.ts';
import { ecryptfsOptions } from '../lib/stacked-mount.ts';

/** What ecryptfs keeps beside the data: in an attribute with `ecryptfs_xattr_metadata`, else in a header. */

const PASSPHRASE = 'fusegate';
const EXTENT = 4096;
const ATTRIBUTE = 'user.ecryptfs';
/** Of the header: data are encrypted, and it is in an attribute. */
const [ENCRYPTED, IN_ATTRIBUTE] = [2, 4];

guestTest(
  'with ecryptfs_xattr_metadata the header is an attribute, and the lower file has data alone (E6)',
  async (t, guest) => {
    await using client = await guest.client();
    const lower = await guest.directory('ext4', 'encrypted');
    const key = passphraseKey(PASSPHRASE);
    await guest.ecryptfsKey(PASSPHRASE);
    const request = (...more: string[]) => {
      return { source: lower, type: 'ecryptfs', options: ecryptfsOptions(key.signature, { more }) };
    };
    const stored = async () => {
      const header = await client.getxattr({ path: `${lower}/f`, name: ATTRIBUTE });
      const data = await client.readFile({ path: `${lower}/f` });
      // The other reader takes a header of whole extents before the data.
      const whole = new Uint8Array(2 * EXTENT + data.length);
      whole.set(header);
      whole.set(data, 2 * EXTENT);
      return { lower: data.length, ...decryptLowerFile(whole, key) };
    };
    const data = pattern(EXTENT + 5);
    const long = pattern(4 * EXTENT, 2);
    {
      await using ecryptfs = await guest.mount(request('ecryptfs_xattr_metadata'), client);
      await client.writeFile({ path: ecryptfs.file('f'), data });
      await client.writeFile({ path: ecryptfs.file('long'), data: long });
      const { lower: length, size, flags, data: decrypted } = await stored();
      t.deepEqual(
        { length, size, flags },
        { length: 2 * EXTENT, size: data.length, flags: ENCRYPTED | IN_ATTRIBUTE },
      );
      t.is(firstDifference(decrypted.subarray(0, data.length), data), undefined, 'the data');
      t.is(await ecryptfs.unmount(), 'ok');
    }
    {
      await using ecryptfs = await guest.mount(request('ecryptfs_xattr_metadata'), client);
      const path = ecryptfs.file('f');
      t.is(firstDifference(await client.readFile({ path }), data), undefined, 'the data, mounted anew');
      t.is((await client.stat({ path })).size, data.length, 'the size, once it has been open');
      await client.truncate({ path, length: 100 });
      t.is((await stored()).size, 100, 'made shorter');
      t.is((await client.stat({ path: `${lower}/f` })).size, EXTENT, 'and so is the lower file');
      await client.writeFile({ path, data: ', and more', flags: 'O_WRONLY|O_APPEND' });
      t.is((await stored()).size, 110, 'appended to');
      t.is(await ecryptfs.unmount(), 'ok');
    }
    const encryptedView = 'ecryptfs_encrypted_view';
    await using ecryptfs = await guest.mount(request('ecryptfs_xattr_metadata', encryptedView), client);
    const seen = await client.readFile({ path: ecryptfs.file('f') });
    t.is(decryptLowerFile(seen, key).size, 110, 'an encrypted view has a header');
    t.is(decryptLowerFile(seen, key).flags, ENCRYPTED, 'which is one of a file that has it in itself');
    const view = await client.readFile({ path: ecryptfs.file('long') });
    const attribute = await client.getxattr({ path: `${lower}/long`, name: ATTRIBUTE });
    const behind = view.subarray(attribute.length, 2 * EXTENT);
    t.is(firstDifference(behind, new Uint8Array(behind.length)), undefined, 'and zeros behind the header');
    const { data: shown } = decryptLowerFile(view, key);
    // The view may end as early as the lower file, which is shorter by the header.
    t.is(
      firstDifference(shown.subarray(0, 2 * EXTENT), long.subarray(0, 2 * EXTENT)),
      undefined,
      'and the data behind it',
    );
  },
);

guestTest(
  'with ecryptfs_xattr_metadata a file has its size before anybody has opened it (E6)',
  async (t, guest) => {
    await using client = await guest.client();
    const lower = await guest.directory('ext4', 'encrypted');
    const options = ecryptfsOptions(await guest.ecryptfsKey(), { more: ['ecryptfs_xattr_metadata'] });
    const request = { source: lower, type: 'ecryptfs', options };
    {
      await using ecryptfs = await guest.mount(request, client);
      await client.writeFile({ path: ecryptfs.file('f'), data: 'contents' });
      t.is((await client.stat({ path: ecryptfs.file('f') })).size, 8);
    }
    await using ecryptfs = await guest.mount(request, client);
    t.is((await client.stat({ path: ecryptfs.file('f') })).size, 8, 'mounted anew');
  },
);

/** Half of a marker, any number, and the other half; before it a size. */
const [SIZE, HALF] = [5, 0x0102_0304];
/** By length: what of an attribute is enough to tell a size, without anybody opening the file. */
const BEGINNINGS: Readonly<
  Record<string, { readonly length: number; readonly flip?: number; readonly size?: number }>
> = {
  'size and marker': { length: 16, size: SIZE },
  'a byte less': { length: 15 },
  'another marker': { length: 16, flip: 15 },
  'a size alone': { length: 8 },
};

guestTest('a file has the size that an attribute begins with, if it is one of ecryptfs', async (t, guest) => {
  await using client = await guest.client();
  const lower = await guest.directory('ext4', 'encrypted');
  for (const [what, { length, flip }] of Object.entries(BEGINNINGS)) {
    const whole = Buffer.alloc(16);
    whole.writeBigUInt64BE(BigInt(SIZE), 0);
    whole.writeUInt32BE(HALF, 8);
    whole.writeUInt32BE((HALF ^ 0x3c81_b7f5) >>> 0, 12);
    if (flip !== undefined) whole.writeUInt8(whole.readUInt8(flip) ^ 1, flip);
    await client.writeFile({ path: `${lower}/${what}`, data: pattern(EXTENT) });
    const data = new Uint8Array(whole.subarray(0, length));
    await client.setxattr({ path: `${lower}/${what}`, name: ATTRIBUTE, data });
  }
  await using ecryptfs = await guest.mountEcryptfs({ lower }, client);
  for (const [what, { size = EXTENT }] of Object.entries(BEGINNINGS)) {
    const path = ecryptfs.file(what);
    t.is((await client.stat({ path })).size, size, what);
    t.is(await client.errno.open({ path, flags: 'O_RDONLY' }), 'EIO', `${what}: it has no header`);
  }
});

/** How much of a header comes before the packets of keys. */
const BEFORE_PACKETS = 26;
/** What a packet of a key begins with. */
const PACKET = 0x8c;

guestTest(
  'a header in an attribute ends where the attribute does, whatever the file begins with (E6)',
  async (t, guest) => {
    await using client = await guest.client();
    const lower = await guest.directory('ext4', 'encrypted');
    const { key, signature } = passphraseKey(PASSPHRASE);
    await guest.ecryptfsKey(PASSPHRASE);
    const fileKey = pattern(16, 7);
    const packets = [
      passphrasePacket({ wrapped: encryptBlocks(key.subarray(0, 16), fileKey) }),
      signaturePacket({ signature }),
    ];
    const flags = ENCRYPTED | IN_ATTRIBUTE;
    const header = lowerFile({ packets, fileKey, flags, data: new Uint8Array(SIZE) }).subarray(
      0,
      BEFORE_PACKETS + packets.reduce((sum, { length }) => sum + length, 0),
    );
    for (const [name, byte] of Object.entries({ zeros: 0, packets: PACKET })) {
      const path = `${lower}/${name}`;
      await client.writeFile({ path, data: new Uint8Array(EXTENT).fill(byte) });
      await client.setxattr({ path, name: ATTRIBUTE, data: header });
    }
    const options = ecryptfsOptions(signature, { more: ['ecryptfs_xattr_metadata'] });
    await using ecryptfs = await guest.mount({ source: lower, type: 'ecryptfs', options }, client);
    for (const name of ['zeros', 'packets']) {
      const path = ecryptfs.file(name);
      t.is(await client.errno.readFile({ path }), 'ok', name);
      t.is((await client.readFile({ path })).length, SIZE, name);
    }
  },
);

guestTest(
  'an attribute that is removed below is made again by a write, with the size alone',
  async (t, guest) => {
    await using client = await guest.client();
    const lower = await guest.directory('ext4', 'encrypted');
    const options = ecryptfsOptions(await guest.ecryptfsKey(), { more: ['ecryptfs_xattr_metadata'] });
    await using ecryptfs = await guest.mount({ source: lower, type: 'ecryptfs', options }, client);
    const fd = await client.open({ path: ecryptfs.file('f'), flags: 'O_RDWR|O_CREAT' });
    await client.removexattr({ path: `${lower}/f`, name: ATTRIBUTE });
    await client.pwrite({ fd, data: 'contents', offset: 0 });
    const attribute = await client.getxattr({ path: `${lower}/f`, name: ATTRIBUTE });
    t.deepEqual([...attribute], [0, 0, 0, 0, 0, 0, 0, 8]);
    await client.close({ fd });
  },
);

guestTest(
  'a mount that keeps headers in attributes reads files that have them in themselves, not the other way round (E6)',
  async (t, guest) => {
    await using client = await guest.client();
    const lower = await guest.directory('ext4', 'encrypted');
    const signature = await guest.ecryptfsKey();
    const mount = (...more: string[]) => {
      const options = ecryptfsOptions(signature, { more });
      return guest.mount({ source: lower, type: 'ecryptfs', options }, client);
    };
    {
      await using ecryptfs = await mount();
      await client.writeFile({ path: ecryptfs.file('in-itself'), data: 'in itself' });
    }
    {
      await using ecryptfs = await mount('ecryptfs_xattr_metadata');
      t.is(text(await client.readFile({ path: ecryptfs.file('in-itself') })), 'in itself');
      await client.writeFile({ path: ecryptfs.file('beside'), data: 'beside' });
    }
    await using ecryptfs = await mount();
    t.is(
      await client.errno.readFile({ path: ecryptfs.file('beside') }),
      'EIO',
      'nobody is asked for attributes',
    );
    t.is(text(await client.readFile({ path: ecryptfs.file('in-itself') })), 'in itself');
  },
);

for (const keyBytes of [24, 32] as const) {
  guestTest(`with keys of ${keyBytes} bytes files are encrypted with them (E6)`, async (t, guest) => {
    await using client = await guest.client();
    const lower = await guest.directory('ext4', 'encrypted');
    const key = passphraseKey(PASSPHRASE);
    await guest.ecryptfsKey(PASSPHRASE);
    const options = ecryptfsOptions(key.signature, { keyBytes });
    const request = { source: lower, type: 'ecryptfs', options };
    const data = pattern(EXTENT + 5);
    {
      await using ecryptfs = await guest.mount(request, client);
      await client.writeFile({ path: ecryptfs.file('f'), data });
      t.is(await ecryptfs.unmount(), 'ok');
    }
    const file = decryptLowerFile(await client.readFile({ path: `${lower}/f` }), key, keyBytes);
    t.is(file.size, data.length);
    t.is(firstDifference(file.data.subarray(0, data.length), data), undefined, 'by another program');
    const drawn = file.fileKey.subarray(16);
    t.is(drawn.length, keyBytes - 16, 'bytes of the key behind those that every key has');
    t.not(firstDifference(drawn, new Uint8Array(drawn.length)), undefined, 'which are drawn, too');
    await using ecryptfs = await guest.mount(request, client);
    t.is(
      firstDifference(await client.readFile({ path: ecryptfs.file('f') }), data),
      undefined,
      'mounted anew',
    );
    await client.writeFile({ path: ecryptfs.file('f'), data: bytes('short') });
    t.is(text(await client.readFile({ path: ecryptfs.file('f') })), 'short');
  });
}

guestTest(
  'a mount that does not take headers from attributes refuses such a file every time (E6)',
  async (t, guest) => {
    await using client = await guest.client();
    const lower = await guest.directory('ext4', 'encrypted');
    const options = ecryptfsOptions(await guest.ecryptfsKey(), { more: ['ecryptfs_xattr_metadata'] });
    {
      await using ecryptfs = await guest.mount({ source: lower, type: 'ecryptfs', options }, client);
      await client.writeFile({ path: ecryptfs.file('beside'), data: 'beside' });
      t.is(text(await client.readFile({ path: ecryptfs.file('beside') })), 'beside');
    }
    await using ecryptfs = await guest.mountEcryptfs({ lower }, client);
    for (const time of ['first', 'second', 'third']) {
      t.is(await client.errno.readFile({ path: ecryptfs.file('beside') }), 'EIO', `the ${time} time`);
    }
  },
);
