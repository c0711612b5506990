import { createCipheriv, createDecipheriv, createHash } from 'node:crypto';

/**
 * ecryptfs read by another program than the kernel: AES and a passphrase. The format is that of
 * fs/ecryptfs/{crypto,keystore}.c; how a passphrase becomes a key, of ecryptfs-utils.
 */

const EXTENT = 4096;
/** Of AES. */
const BLOCK = 16;
/** `ecryptfs_key_bytes` of a mount. */
export type KeyBytes = 16 | 24 | 32;
const MARKER = 0x3c81_b7f5;
/** Offsets in the header; numbers are big-endian. */
const AT = { size: 0, marker: 8, flags: 16, extentBytes: 20, headerExtents: 24, packets: 26 } as const;
/** Of AES with keys of so many bytes (RFC 2440, 9.2). */
const CIPHER_CODES: Readonly<Record<KeyBytes, number>> = { 16: 7, 24: 8, 32: 9 };
/** A tag 3 packet (RFC 2440): type, length, version 4, cipher, S2K 3 of MD5, salt, iterations, encrypted key. */
const TAG_3 = { type: 0x8c, lengthBesideKey: 13, version: 4, s2k: 3, hash: 1 } as const;
/** What ecryptfs-utils takes when it is told no other. */
const SALT = Buffer.from('0011223344556677', 'hex');
const ITERATIONS = 65_536;

export interface EcryptfsFile {
  /** In the header. Bytes. */
  readonly size: number;
  readonly headerBytes: number;
  readonly version: number;
  readonly flags: number;
  /** What the data are encrypted with. */
  readonly fileKey: Uint8Array;
  /** Whole extents, with what lies behind the end of the file. */
  readonly data: Uint8Array;
}

export interface PassphraseKey {
  /** The 64 bytes that a passphrase becomes; ciphers take the first of them. */
  readonly key: Uint8Array;
  readonly signature: string;
}

/** The key that keys of files are encrypted with, and the signature by which mounts name it. */
export function passphraseKey(passphrase: string): PassphraseKey {
  const made = keys.get(passphrase) ?? makeKey(passphrase);
  keys.set(passphrase, made);
  return made;
}

/** By passphrase. */
const keys = new Map<string, PassphraseKey>();

function makeKey(passphrase: string): PassphraseKey {
  let hash = sha512(Buffer.concat([SALT, Buffer.from(passphrase)]));
  for (let done = 1; done < ITERATIONS; done++) hash = sha512(hash);
  return { key: hash, signature: sha512(hash).subarray(0, 8).toString('hex') };
}

/** Decrypts the bytes of a lower file with the key of its mount. @throws Error naming the member of the header that is not as it must be. */
export function decryptLowerFile(
  lower: Uint8Array,
  { key }: PassphraseKey,
  keyBytes: KeyBytes = 16,
): EcryptfsFile {
  const bytes = Buffer.from(lower.buffer, lower.byteOffset, lower.byteLength);
  const word = bytes.readUInt32BE(AT.marker);
  expect('marker', (bytes.readUInt32BE(AT.marker + 4) ^ word) >>> 0, MARKER);
  expect('extent size', bytes.readUInt32BE(AT.extentBytes), EXTENT);
  const packet = bytes.subarray(AT.packets);
  const { type, lengthBesideKey, version, s2k, hash } = TAG_3;
  // Whole blocks of the cipher are encrypted.
  const encryptedBytes = Math.ceil(keyBytes / BLOCK) * BLOCK;
  const length = lengthBesideKey + encryptedBytes;
  for (const [at, value] of [type, length, version, CIPHER_CODES[keyBytes], s2k, hash].entries()) {
    expect(`byte ${at} of the key packet`, packet[at], value);
  }
  const encrypted = packet.subarray(6 + SALT.length + 1, 6 + SALT.length + 1 + encryptedBytes);
  const wrapping = key.subarray(0, keyBytes);
  const fileKey = decipher(`aes-${8 * keyBytes}-ecb`, { key: wrapping, iv: null }, encrypted).subarray(
    0,
    keyBytes,
  );
  const headerBytes = bytes.readUInt16BE(AT.headerExtents) * EXTENT;
  const flags = bytes.readUInt32BE(AT.flags);
  return {
    size: Number(bytes.readBigUInt64BE(AT.size)),
    headerBytes,
    version: flags >>> 24,
    flags: flags & 0xff_ffff,
    fileKey,
    data: decryptExtents(bytes.subarray(headerBytes), fileKey),
  };
}

function decryptExtents(stored: Buffer, key: Uint8Array): Uint8Array {
  const root = md5(key);
  const count = Math.floor(stored.length / EXTENT);
  const extents = Array.from({ length: count }, (_none, nth) => {
    const number = Buffer.alloc(16);
    number.write(String(nth));
    const iv = md5(Buffer.concat([root, number]));
    return decipher(
      `aes-${8 * key.length}-cbc`,
      { key, iv },
      stored.subarray(nth * EXTENT, (nth + 1) * EXTENT),
    );
  });
  return new Uint8Array(Buffer.concat(extents));
}

function decipher(
  algorithm: string,
  { key, iv }: { readonly key: Uint8Array; readonly iv: Uint8Array | null },
  data: Uint8Array,
): Buffer {
  const cipher = createDecipheriv(algorithm, key, iv);
  cipher.setAutoPadding(false);
  return Buffer.concat([cipher.update(data), cipher.final()]);
}

export const NAME_PREFIX = 'ECRYPTFS_FNEK_ENCRYPTED.';
const NAME_CHARACTERS = '-.0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';
const TAG_70 = 0x46;
/** In front of a name, at least: bytes that come from the key, and one zero. */
const FILLING_BYTES = 16;
/** Where the filling would be zero, which ends it. */
const NOT_ZERO = 0x42;
/** What a length in two bytes begins at. */
const TWO_BYTES_FROM = 192;

/** What a name is called below a mount that encrypts names with so much of a key: a tag 70 packet in 64 characters. */
export function encryptName(
  name: string,
  { key, signature }: PassphraseKey,
  keyBytes: KeyBytes = 16,
): string {
  const plain = Buffer.from(name);
  const padded = Math.ceil((FILLING_BYTES + 1 + plain.length) / BLOCK) * BLOCK;
  const filling = fillingOf(key, padded - plain.length - 1);
  const cipher = createCipheriv(`aes-${8 * keyBytes}-ecb`, key.subarray(0, keyBytes), null);
  cipher.setAutoPadding(false);
  const encrypted = cipher.update(Buffer.concat([filling, Buffer.alloc(1), plain]));
  const body = Buffer.concat([
    Buffer.from(signature, 'hex'),
    Buffer.from([CIPHER_CODES[keyBytes]]),
    encrypted,
  ]);
  return NAME_PREFIX + inCharacters(Buffer.concat([Buffer.from([TAG_70]), lengthOf(body), body]));
}

function fillingOf(key: Uint8Array, length: number): Buffer {
  const parts: Buffer[] = [];
  for (let hash = md5(key); parts.length * hash.length < length; hash = md5(hash)) parts.push(hash);
  const filling = Buffer.concat(parts).subarray(0, length);
  return filling.map((byte) => (byte === 0 ? NOT_ZERO : byte)) as Buffer;
}

/** Of a packet: one byte, or two (RFC 2440, 4.2.2). */
export function lengthOf({ length }: Uint8Array): Buffer {
  if (length < TWO_BYTES_FROM) return Buffer.from([length]);
  const rest = length - TWO_BYTES_FROM;
  return Buffer.from([TWO_BYTES_FROM + (rest >> 8), rest & 0xff]);
}

/** Three bytes in four characters; the last ones are filled with zeros. */
export function inCharacters(packet: Uint8Array): string {
  const padded = Buffer.concat([packet, Buffer.alloc((3 - (packet.length % 3)) % 3)]);
  return Array.from({ length: padded.length / 3 }, (_none, block) => {
    const bits = padded.readUIntBE(3 * block, 3);
    return [18, 12, 6, 0].map((shift) => NAME_CHARACTERS[(bits >> shift) & 0x3f] ?? '').join('');
  }).join('');
}

function expect(what: string, seen: number | undefined, wanted: number): void {
  if (seen !== wanted) throw new Error(`${what} of the lower file is ${seen}, not ${wanted}`);
}

function sha512(data: Uint8Array): Buffer {
  return createHash('sha512').update(data).digest();
}

function md5(data: Uint8Array): Buffer {
  return createHash('md5').update(data).digest();
}
