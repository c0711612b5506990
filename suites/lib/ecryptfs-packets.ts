import { createCipheriv, createDecipheriv, createHash } from 'node:crypto';
import { bytes, concat } from './bytes.ts';
import { inCharacters, lengthOf, NAME_PREFIX } from './ecryptfs-format.ts';

/**
 * Lower files and names of ecryptfs made by another program than the kernel, right ones and wrong ones: each part
 * can be another than it should be. The format is that of fs/ecryptfs/{crypto,keystore}.c.
 */

const EXTENT = 4096;
const MARKER = 0x3c81_b7f5;
/** Any number will do in front of the marker. */
const HALF_MARKER = 0x0102_0304;
/** In the flags: the data are encrypted. */
const ENCRYPTED = 2;
/** Of AES (RFC 2440, 9.2). */
export const AES = { 128: 7, 192: 8, 256: 9 } as const;

/** `length`: what the packet says of its length, in bytes as they are; default what is true. */
type Length = { readonly length?: readonly number[] | undefined };

function packet(type: number, body: Uint8Array, length?: readonly number[]): Uint8Array {
  return concat(Uint8Array.of(type), Uint8Array.from(length ?? lengthOf(body)), body);
}

/** A signature as packets have it. */
function signatureBytes(signature: string): Uint8Array {
  return new Uint8Array(Buffer.from(signature, 'hex'));
}

/** The key of a file, encrypted with the key of a passphrase. */
export function passphrasePacket({
  wrapped,
  cipher = AES[128],
  salt = new Uint8Array(8),
  length,
}: Length & {
  readonly wrapped: Uint8Array;
  readonly cipher?: number | undefined;
  /** Eight bytes. */
  readonly salt?: Uint8Array | undefined;
}): Uint8Array {
  const body = concat(Uint8Array.of(4, cipher, 3, 1), salt, Uint8Array.of(0x60), wrapped);
  return packet(0x8c, body, length);
}

/** The signature of that passphrase, which follows. `signature`: in hexadecimal. */
export function signaturePacket({ signature, length }: Length & { readonly signature: string }): Uint8Array {
  const body = concat(
    Uint8Array.of(0x62, 8),
    bytes('_CONSOLE'),
    new Uint8Array(4),
    signatureBytes(signature),
  );
  return packet(0xed, body, length);
}

/** The key of a file, encrypted for the owner of a public key. */
export function publicKeyPacket({
  signature,
  encryptedBytes,
  version = 3,
  length,
}: Length & {
  readonly signature: string;
  readonly encryptedBytes: number;
  readonly version?: number | undefined;
}): Uint8Array {
  const encrypted = new Uint8Array(encryptedBytes).fill(0x5a);
  const body = concat(Uint8Array.of(version), signatureBytes(signature), Uint8Array.of(1), encrypted);
  return packet(1, body, length);
}

/** AES without a mode, as keys and names are encrypted. `data`: whole blocks. */
export function encryptBlocks(key: Uint8Array, data: Uint8Array): Uint8Array {
  const cipher = createCipheriv(`aes-${8 * key.length}-ecb`, key, null);
  cipher.setAutoPadding(false);
  return new Uint8Array(Buffer.concat([cipher.update(data), cipher.final()]));
}

/** What `encryptBlocks` was given. */
export function decryptBlocks(key: Uint8Array, data: Uint8Array): Uint8Array {
  const cipher = createDecipheriv(`aes-${8 * key.length}-ecb`, key, null);
  cipher.setAutoPadding(false);
  return new Uint8Array(Buffer.concat([cipher.update(data), cipher.final()]));
}

export interface LowerFile {
  /** In this order; nothing comes between them. */
  readonly packets: readonly Uint8Array[];
  readonly fileKey: Uint8Array;
  readonly data: Uint8Array;
  readonly version?: number | undefined;
  /** Default what ecryptfs writes: that the data are encrypted. */
  readonly flags?: number | undefined;
  readonly extentBytes?: number | undefined;
  readonly extents?: number | undefined;
}

/** A lower file with its header. Version 0 of the format has no size of the header in it. */
export function lowerFile({
  packets,
  fileKey,
  data,
  version = 3,
  flags = ENCRYPTED,
  extentBytes = EXTENT,
  extents = 2,
}: LowerFile): Uint8Array {
  const header = Buffer.alloc(extentBytes * extents);
  header.writeBigUInt64BE(BigInt(data.length), 0);
  header.writeUInt32BE(HALF_MARKER, 8);
  header.writeUInt32BE((HALF_MARKER ^ MARKER) >>> 0, 12);
  header.writeUInt32BE((version << 24) | flags, 16);
  if (version > 0) {
    header.writeUInt32BE(extentBytes, 20);
    header.writeUInt16BE(extents, 24);
  }
  header.set(concat(...packets), version > 0 ? 26 : 20);
  return concat(header, encryptExtents(fileKey, data));
}

function encryptExtents(key: Uint8Array, data: Uint8Array): Uint8Array {
  const whole = new Uint8Array(Math.ceil(data.length / EXTENT) * EXTENT);
  whole.set(data);
  const extents = Array.from({ length: whole.length / EXTENT }, (_none, nth) => {
    const number = Buffer.alloc(16);
    number.write(String(nth));
    const cipher = createCipheriv(`aes-${8 * key.length}-cbc`, key, md5(concat(md5(key), number)));
    cipher.setAutoPadding(false);
    return cipher.update(whole.subarray(nth * EXTENT, (nth + 1) * EXTENT));
  });
  return concat(...extents);
}

function md5(data: Uint8Array): Uint8Array {
  return createHash('md5').update(data).digest();
}

export interface NamePacket extends Length {
  /** In hexadecimal. */
  readonly signature: string;
  /** What is encrypted: 16 bytes that are not zero, a zero, the name, in whole blocks. */
  readonly encrypted: Uint8Array;
  readonly cipher?: number | undefined;
}

/** An encrypted name as it is below: a tag 70 packet in letters. */
export function lowerName({ signature, encrypted, cipher = AES[128], length }: NamePacket): string {
  const body = concat(signatureBytes(signature), Uint8Array.of(cipher), encrypted);
  return NAME_PREFIX + inCharacters(packet(0x46, body, length));
}
