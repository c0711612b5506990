import { firstDifference, pattern } from '../lib/bytes.ts';
import { passphraseKey } from '../lib/ecryptfs-format.ts';
import {
  AES,
  encryptBlocks,
  lowerFile,
  passphrasePacket,
  publicKeyPacket,
  signaturePacket,
  type LowerFile,
} from '../lib/ecryptfs-packets.ts';
import { guestTest } from '../lib/guest-test.ts';

/**
 * Headers by another program: packets of keys, in any order, as many as there is room for in the first page, and
 * such as the format has not.
 */

const PASSPHRASE = 'fusegate';
const { key, signature } = passphraseKey(PASSPHRASE);
/** Signatures of keys that nobody has. */
const [NOBODYS, ANOTHERS] = ['0123456789abcdef', 'fedcba9876543210'];
const DATA = pattern(5000);
/** What packets have room for: a page without what a header begins with. */
const ROOM = 4096 - 26;
/** Of a packet for a public key with as many bytes as one may have. */
const [MOST_ENCRYPTED, LARGEST] = [512, 525];
/** Of one with so many encrypted bytes that its length takes two. */
const AROUND_ENCRYPTED = 13;

const fileKey = pattern(16, 7);
const wrapped = encryptBlocks(key.subarray(0, 16), fileKey);
/** Longer than a key for AES-192 has to be: its first 24 bytes count. */
const longKey = (length: number) => pattern(length, 9);
const wrappedLong = (length: number) => encryptBlocks(key.subarray(0, 24), longKey(length));

const OWN = [passphrasePacket({ wrapped }), signaturePacket({ signature })];
const OF_ANOTHER = [
  passphrasePacket({ wrapped: encryptBlocks(pattern(16, 1), fileKey) }),
  signaturePacket({ signature: ANOTHERS }),
];
const PUBLIC = publicKeyPacket({ signature: NOBODYS, encryptedBytes: MOST_ENCRYPTED });

/** Packets for public keys that are so many bytes together. */
function filling(length: number): Uint8Array[] {
  const whole = Math.floor(length / LARGEST) - 1;
  const rest = length - whole * LARGEST;
  const halves = [Math.floor(rest / 2), Math.ceil(rest / 2)];
  return [
    ...Array.from({ length: whole }, () => PUBLIC),
    ...halves.map((half) => publicKeyPacket({ signature: NOBODYS, encryptedBytes: half - AROUND_ENCRYPTED })),
  ];
}

function lengthOfAll(packets: readonly Uint8Array[]): number {
  return packets.reduce((sum, { length }) => sum + length, 0);
}

/** So that what comes then begins so many bytes before the end of the page. */
function beforeTheEnd(left: number, first: readonly Uint8Array[] = []): Uint8Array[] {
  return [...first, ...filling(ROOM - left - lengthOfAll(first))];
}

const RIGHT: Readonly<Record<string, Omit<LowerFile, 'data'>>> = {
  'as ecryptfs writes it': { packets: OWN, fileKey },
  'of version 0, which has a header of two extents': { packets: OWN, fileKey, version: 0 },
  'of version 1': { packets: OWN, fileKey, version: 1 },
  'of version 2': { packets: OWN, fileKey, version: 2 },
  'whose flags do not say that it is encrypted': { packets: OWN, fileKey, flags: 0 },
  'with a header of three extents': { packets: OWN, fileKey, extents: 3 },
  'with a header of small extents': { packets: OWN, fileKey, extentBytes: 512, extents: 24 },
  'with a header of more than 255 small extents': { packets: OWN, fileKey, extentBytes: 512, extents: 300 },
  'with a key of 64 bytes': {
    packets: [
      passphrasePacket({ wrapped: wrappedLong(64), cipher: AES[192] }),
      signaturePacket({ signature }),
    ],
    fileKey: longKey(64).subarray(0, 24),
  },
  'with the key of another passphrase before its own': { packets: [...OF_ANOTHER, ...OWN], fileKey },
  'with the key of another passphrase behind its own': { packets: [...OWN, ...OF_ANOTHER], fileKey },
  'with a public key before its own': { packets: [PUBLIC, ...OWN], fileKey },
  'with a public key behind its own': { packets: [...OWN, PUBLIC], fileKey },
  'with a small public key behind its own': {
    packets: [...OWN, publicKeyPacket({ signature: NOBODYS, encryptedBytes: 0 })],
    fileKey,
  },
  'whose own key is the last in its page': { packets: [...beforeTheEnd(lengthOfAll(OWN)), ...OWN], fileKey },
  'whose public keys fill its page': { packets: beforeTheEnd(0, OWN), fileKey },
};

guestTest('a file by another program is read, whichever packets of keys it has', async (t, guest) => {
  await using client = await guest.client();
  const lower = await guest.directory('ext4', 'encrypted');
  t.is(await guest.ecryptfsKey(PASSPHRASE), signature, 'the key of the mount');
  for (const [what, file] of Object.entries(RIGHT)) {
    await client.writeFile({ path: `${lower}/${what}`, data: lowerFile({ ...file, data: DATA }) });
  }
  await using ecryptfs = await guest.mountEcryptfs({ lower }, client);
  for (const what of Object.keys(RIGHT)) {
    const path = ecryptfs.file(what);
    t.is(await client.errno.readFile({ path }), 'ok', what);
    t.is(firstDifference(await client.readFile({ path }), DATA), undefined, what);
  }
});

guestTest(
  'a file with a long header is read where its data are, also when another of its names is looked up',
  async (t, guest) => {
    await using client = await guest.client();
    const lower = await guest.directory('ext4', 'encrypted');
    t.is(await guest.ecryptfsKey(PASSPHRASE), signature, 'the key of the mount');
    const data = lowerFile({ packets: OWN, fileKey, extents: 3, data: DATA });
    await client.writeFile({ path: `${lower}/f`, data });
    for (const name of ['g', 'h']) await client.link({ from: `${lower}/f`, to: `${lower}/${name}` });
    await using ecryptfs = await guest.mountEcryptfs({ lower }, client);
    const fd = await client.open({ path: ecryptfs.file('f'), flags: 'O_RDWR' });
    t.is((await client.stat({ path: ecryptfs.file('g') })).size, DATA.length, 'by another name');
    const seen = await client.pread({ fd, count: DATA.length, offset: 0 });
    t.is(firstDifference(seen, DATA), undefined, 'what was opened before');
    t.is((await client.stat({ path: ecryptfs.file('h') })).size, DATA.length, 'by one more');
    await client.ftruncate({ fd, length: 100 });
    const stored = await client.readFile({ path: `${lower}/f` });
    t.is(stored.length, 4 * 4096, 'the header and a page, once it is cut');
    t.is(firstDifference(stored.subarray(8, 3 * 4096), data.subarray(8, 3 * 4096)), undefined, 'the header');
    await client.close({ fd });
  },
);

/** More packets than the kernel has keys in one piece of memory, and a key so long that it may lie across two pages. */
const [MANY, longest] = [24, pattern(32, 11)];

guestTest('a file by another program is read wherever its key is among many', async (t, guest) => {
  await using client = await guest.client();
  const lower = await guest.directory('ext4', 'encrypted');
  t.is(await guest.ecryptfsKey(PASSPHRASE), signature, 'the key of the mount');
  const ofKey = (wrappingKey: Uint8Array, of: string) => [
    passphrasePacket({ wrapped: encryptBlocks(wrappingKey, longest), cipher: AES[256] }),
    signaturePacket({ signature: of }),
  ];
  const [own, another] = [ofKey(key.subarray(0, 32), signature), ofKey(pattern(32, 1), ANOTHERS)];
  const places = Array.from({ length: MANY }, (_none, place) => place);
  for (const place of places) {
    const packets = places.flatMap((each) => (each === place ? own : another));
    const data = lowerFile({ packets, fileKey: longest, data: DATA });
    await client.writeFile({ path: `${lower}/${place}`, data });
  }
  await using ecryptfs = await guest.mountEcryptfs({ lower }, client);
  for (const place of places) {
    const path = ecryptfs.file(String(place));
    t.is(await client.errno.readFile({ path }), 'ok', `at ${place}`);
    t.is(firstDifference(await client.readFile({ path }), DATA), undefined, `at ${place}`);
  }
});

/** With a packet of a key that would do, if it were right. */
function withKey(packet: Uint8Array): Uint8Array[] {
  return [packet, signaturePacket({ signature })];
}

/** With a packet of a signature that would do. */
function withSignature(packet: Uint8Array): Uint8Array[] {
  return [passphrasePacket({ wrapped }), packet];
}

function publicKey(part: Partial<Parameters<typeof publicKeyPacket>[0]>): Uint8Array {
  return publicKeyPacket({ signature: NOBODYS, encryptedBytes: 16, ...part });
}

const [KEY_PACKET, SIGNATURE_PACKET] = OWN.map(({ length }) => length);

/** Lengths that begin as none does, and one in five bytes, which ecryptfs does not know. */
const [NO_LENGTH, FIVE_BYTES] = [
  [224, 0],
  [255, 0, 0, 0, 29],
];

const WRONG: Readonly<Record<string, readonly Uint8Array[]>> = {
  'a key whose length is none': withKey(passphrasePacket({ wrapped, length: NO_LENGTH })),
  'a key whose length takes five bytes': withKey(passphrasePacket({ wrapped, length: FIVE_BYTES })),
  'a key in too few bytes': withKey(passphrasePacket({ wrapped: new Uint8Array(), length: [12] })),
  'a key of no bytes': withKey(passphrasePacket({ wrapped: new Uint8Array() })),
  'a key of more than 64 bytes': withKey(passphrasePacket({ wrapped: wrappedLong(80), cipher: AES[192] })),
  'a key that is no whole blocks': withKey(
    passphrasePacket({ wrapped: wrappedLong(32).subarray(0, 17), cipher: AES[192] }),
  ),
  'a key longer than AES has one': withKey(passphrasePacket({ wrapped: wrappedLong(48) })),
  'a cipher that there is not': withKey(passphrasePacket({ wrapped, cipher: 1 })),
  // Blowfish, which is a module in other kernels.
  'a cipher that this kernel has not': withKey(passphrasePacket({ wrapped, cipher: 4 })),
  'a cipher that this kernel has not, before a right one': [
    passphrasePacket({ wrapped, cipher: 4 }),
    signaturePacket({ signature: ANOTHERS }),
    ...OWN,
  ],
  'a key that has no room to begin': [...beforeTheEnd(14), ...OWN],
  'a key that goes beyond the page': [...beforeTheEnd((KEY_PACKET ?? 0) - 1), ...OWN],
  'a signature that has no room to begin': [...beforeTheEnd((KEY_PACKET ?? 0) + 15), ...OWN],
  'a signature that goes beyond the page': [
    ...beforeTheEnd((KEY_PACKET ?? 0) + (SIGNATURE_PACKET ?? 0) - 1),
    ...OWN,
  ],
  'a key without a signature': [passphrasePacket({ wrapped })],
  'a signature whose length is none': withSignature(signaturePacket({ signature, length: FIVE_BYTES })),
  'a signature in too few bytes': withSignature(signaturePacket({ signature, length: [13] })),
  'a signature of seven bytes': withSignature(signaturePacket({ signature: signature.slice(0, 14) })),
  'a signature of nine bytes': withSignature(signaturePacket({ signature: `${signature}00` })),
  'a signature by itself': [...OWN, signaturePacket({ signature })],
  'only keys of others': OF_ANOTHER,
  'only a public key': [PUBLIC],
  'no key at all': [],
  'a public key whose length is none': [...OWN, publicKey({ length: NO_LENGTH })],
  'a public key in too few bytes': [...OWN, publicKey({ length: [9] })],
  'a public key of another version': [...OWN, publicKey({ version: 4 })],
  'a public key of more than 512 bytes': [...OWN, publicKey({ encryptedBytes: MOST_ENCRYPTED + 1 })],
  'a public key that has no room to begin': [...beforeTheEnd(11, OWN), publicKey({})],
  'a public key that goes beyond the page': [
    ...beforeTheEnd(100, OWN),
    publicKey({ encryptedBytes: 100 - 12 + 1 }),
  ],
};

guestTest('a file by another program whose packets of keys are wrong is not opened', async (t, guest) => {
  await using client = await guest.client();
  const lower = await guest.directory('ext4', 'encrypted');
  t.is(await guest.ecryptfsKey(PASSPHRASE), signature, 'the key of the mount');
  const file = (packets: readonly Uint8Array[]) => lowerFile({ packets, fileKey, data: DATA });
  for (const [what, packets] of Object.entries(WRONG)) {
    await client.writeFile({ path: `${lower}/${what}`, data: file(packets) });
  }
  await client.writeFile({ path: `${lower}/right`, data: file(OWN) });
  await using ecryptfs = await guest.mountEcryptfs({ lower }, client);
  for (const what of Object.keys(WRONG)) {
    t.is(await client.errno.readFile({ path: ecryptfs.file(what) }), 'EIO', what);
  }
  const right = await client.readFile({ path: ecryptfs.file('right') });
  t.is(firstDifference(right, DATA), undefined, 'one whose packets are right');
});
