import { firstDifference, pattern } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';

/** Headers in which something is not as the format has it (fs/ecryptfs/keystore.c, RFC 2440). */

/** Of the packet of the key, behind size, marker, flags and the size of the header. */
const KEY = 26;
/** Of the packet of the key’s signature, behind that of an AES key of 16 bytes. */
const SIGNATURE = KEY + 31;

/** What is at these bytes otherwise, and is not needed to decrypt the file: only a look at it tells. */
const DAMAGES: Readonly<Record<string, { readonly at: number; readonly was: number; readonly is: number }>> =
  {
    'no packet of a key': { at: KEY, was: 0x8c, is: 0x8d },
    'another version of the packet': { at: KEY + 2, was: 4, is: 5 },
    'another way from passphrase to key': { at: KEY + 4, was: 3, is: 1 },
    'another hash': { at: KEY + 5, was: 1, is: 2 },
    'no packet of a signature': { at: SIGNATURE, was: 0xed, is: 0xec },
    'a signature that is text': { at: SIGNATURE + 2, was: 0x62, is: 0x74 },
    'a signature whose file has a longer name': { at: SIGNATURE + 3, was: 8, is: 9 },
  };

guestTest('a file whose header is damaged is not opened', async (t, guest) => {
  await using client = await guest.client();
  const lower = await guest.directory('ext4', 'encrypted');
  const data = pattern(5000);
  {
    await using ecryptfs = await guest.mountEcryptfs({ lower }, client);
    await client.writeFile({ path: ecryptfs.file('whole'), data });
    t.is(await ecryptfs.unmount(), 'ok');
  }
  const whole = await client.readFile({ path: `${lower}/whole` });
  await client.writeFile({ path: `${lower}/copy`, data: whole });
  for (const [what, { at, was, is }] of Object.entries(DAMAGES)) {
    t.is(whole[at], was, `${what}: the byte as it was`);
    const damaged = whole.slice();
    damaged[at] = is;
    await client.writeFile({ path: `${lower}/${what}`, data: damaged });
  }
  await using ecryptfs = await guest.mountEcryptfs({ lower }, client);
  for (const what of Object.keys(DAMAGES)) {
    t.is(await client.errno.open({ path: ecryptfs.file(what), flags: 'O_RDONLY' }), 'EIO', what);
  }
  const copy = await client.readFile({ path: ecryptfs.file('copy') });
  t.is(firstDifference(copy, data), undefined, 'one that is not damaged is a file like any other');
});

/** In the header: how many extents it has itself, in two bytes of which this is the lower one; two of 4096 bytes is the least. */
const HEADER_EXTENTS_AT = 25;

/** A directory with what ecryptfs has made of a file, and the content of that. */
async function lowerFile(
  guest: TestGuest,
  client: Client,
): Promise<{ readonly lower: string; readonly whole: Uint8Array }> {
  const lower = await guest.directory('ext4', 'encrypted');
  await using ecryptfs = await guest.mountEcryptfs({ lower }, client);
  await client.writeFile({ path: ecryptfs.file('f'), data: pattern(5000) });
  await ecryptfs.unmount();
  return { lower, whole: await client.readFile({ path: `${lower}/f` }) };
}

guestTest(
  'a file whose header says that it is shorter than a header can be is not opened (E6)',
  async (t, guest) => {
    await using client = await guest.client();
    const { lower, whole } = await lowerFile(guest, client);
    t.is(whole[HEADER_EXTENTS_AT], 2, 'the byte as it was');
    await using ecryptfs = await guest.mountEcryptfs({ lower }, client);
    for (const extents of [1, 0]) {
      const damaged = whole.slice();
      damaged[HEADER_EXTENTS_AT] = extents;
      await client.writeFile({ path: `${lower}/${extents}`, data: damaged });
      t.is(
        await client.errno.readFile({ path: ecryptfs.file(String(extents)) }),
        'EIO',
        `${extents} extents`,
      );
    }
  },
);

guestTest('a header that is shorter than one can be is told in the kernel log (E6)', async (t, guest) => {
  await using client = await guest.client();
  const { lower, whole } = await lowerFile(guest, client);
  await using ecryptfs = await guest.mountEcryptfs({ lower }, client);
  // What becomes of the file is another test's.
  for (const extents of [2, 1, 0]) {
    const header = whole.slice();
    header[HEADER_EXTENTS_AT] = extents;
    await client.writeFile({ path: `${lower}/${extents}`, data: header });
    const after = (await guest.kernelLog()).at(-1)?.seq;
    await client.errno.readFile({ path: ecryptfs.file(String(extents)) });
    const said = (await guest.kernelLog(after)).map((record) => record.text);
    const told = said.filter((line) => line.startsWith('Invalid header size'));
    const expected = extents === 2 ? [] : [`Invalid header size: [${extents * 4096}]`];
    t.deepEqual([...new Set(told)], expected, `${extents} extents`);
  }
});
