import { createDecipheriv, createHash } from 'node:crypto';

/**
 * ecryptfs read by another program than the kernel: AES with 128 bits, a passphrase, plain names. The format is that
 * of fs/ecryptfs/{crypto,keystore}.c; how a passphrase becomes a key, of ecryptfs-utils.
 */

const EXTENT = 4096;
const KEY_BYTES = 16;
const MARKER = 0x3c81_b7f5;
/** Offsets in the header; numbers are big-endian. */
const AT = { size: 0, marker: 8, flags: 16, extentBytes: 20, headerExtents: 24, packets: 26 } as const;
/** A tag 3 packet (RFC 2440): type, length, version 4, AES-128, S2K 3 of MD5, salt, iterations, encrypted key. */
const TAG_3 = { type: 0x8c, length: 13 + KEY_BYTES, version: 4, cipher: 7, s2k: 3, hash: 1 } as const;
/** What ecryptfs-utils takes when it is told no other. */
const SALT = Buffer.from('0011223344556677', 'hex');
const ITERATIONS = 65_536;

export interface EcryptfsFile {
  /** In the header. Bytes. */
  readonly size: number;
  readonly headerBytes: number;
  readonly version: number;
  readonly flags: number;
  /** Whole extents, with what lies behind the end of the file. */
  readonly data: Uint8Array;
}

export interface PassphraseKey {
  readonly key: Uint8Array;
  readonly signature: string;
}

/** The key that keys of files are encrypted with, and the signature by which mounts name it. */
export function passphraseKey(passphrase: string): PassphraseKey {
  let hash = sha512(Buffer.concat([SALT, Buffer.from(passphrase)]));
  for (let done = 1; done < ITERATIONS; done++) hash = sha512(hash);
  return { key: hash.subarray(0, KEY_BYTES), signature: sha512(hash).subarray(0, 8).toString('hex') };
}

/** Decrypts the bytes of a lower file with the key of its mount. @throws Error naming the member of the header that is not as it must be. */
export function decryptLowerFile(lower: Uint8Array, { key }: PassphraseKey): EcryptfsFile {
  const bytes = Buffer.from(lower.buffer, lower.byteOffset, lower.byteLength);
  const word = bytes.readUInt32BE(AT.marker);
  expect('marker', (bytes.readUInt32BE(AT.marker + 4) ^ word) >>> 0, MARKER);
  expect('extent size', bytes.readUInt32BE(AT.extentBytes), EXTENT);
  const packet = bytes.subarray(AT.packets);
  const { type, length, version, cipher, s2k, hash } = TAG_3;
  for (const [at, value] of [type, length, version, cipher, s2k, hash].entries()) {
    expect(`byte ${at} of the key packet`, packet[at], value);
  }
  const encrypted = packet.subarray(6 + SALT.length + 1, 6 + SALT.length + 1 + KEY_BYTES);
  const fileKey = decipher('aes-128-ecb', { key, iv: null }, encrypted);
  const headerBytes = bytes.readUInt16BE(AT.headerExtents) * EXTENT;
  const flags = bytes.readUInt32BE(AT.flags);
  return {
    size: Number(bytes.readBigUInt64BE(AT.size)),
    headerBytes,
    version: flags >>> 24,
    flags: flags & 0xff_ffff,
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
    return decipher('aes-128-cbc', { key, iv }, stored.subarray(nth * EXTENT, (nth + 1) * EXTENT));
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

function expect(what: string, seen: number | undefined, wanted: number): void {
  if (seen !== wanted) throw new Error(`${what} of the lower file is ${seen}, not ${wanted}`);
}

function sha512(data: Uint8Array): Buffer {
  return createHash('sha512').update(data).digest();
}

function md5(data: Uint8Array): Buffer {
  return createHash('md5').update(data).digest();
}
