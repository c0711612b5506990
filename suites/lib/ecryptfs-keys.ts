import type { TestGuest } from './guest.ts';

/** Keys of ecryptfs as the kernel finds them in a keyring: `struct ecryptfs_auth_tok` (linux/ecryptfs.h). */

const AUTH_TOKEN_BYTES = 740;
/** Offsets in it. Those of the token: of a password, and of a private key. */
const AT = { version: 0, type: 2, encryptedKeyBytes: 12, encryptedKey: 20, token: 628 } as const;
const PASSWORD = { keyBytes: 12, flags: 16, key: 20, signature: 84, salt: 101 } as const;
const PRIVATE_KEY = { signature: 8 } as const;
/** ECRYPTFS_VERSION_MAJOR and MINOR. */
export const AUTH_TOKEN_VERSION = 0x0004;
/** `enum ecryptfs_token_types`. */
export const TokenType = { password: 0, privateKey: 1 } as const;
/** Where a token says how long the encrypted key of a file is: four bytes, which ecryptfs writes. */
export const ENCRYPTED_KEY_BYTES_AT = AT.encryptedKeyBytes;
/** ECRYPTFS_SESSION_KEY_ENCRYPTION_KEY_SET */
const KEY_SET = 2;

export interface AuthToken {
  /** 16 digits, hexadecimal. */
  readonly signature: string;
  readonly version?: number | undefined;
  readonly type?: number | undefined;
  /** Of a password: what keys of files are encrypted with. 64 bytes. */
  readonly key?: Uint8Array | undefined;
  /** Of a password: what was hashed before it. Eight bytes, default zeros. */
  readonly salt?: Uint8Array | undefined;
  /** Whether the token says that it has that key. Default true. */
  readonly keySet?: boolean | undefined;
  /** The key of every new file as it is encrypted already. */
  readonly encryptedKey?: Uint8Array | undefined;
}

function authToken(token: AuthToken): Uint8Array {
  const { signature, version = AUTH_TOKEN_VERSION, type = TokenType.password, key, encryptedKey } = token;
  const data = Buffer.alloc(AUTH_TOKEN_BYTES);
  data.writeUInt16LE(version, AT.version);
  data.writeUInt16LE(type, AT.type);
  if (encryptedKey !== undefined) {
    data.writeUInt32LE(encryptedKey.length, AT.encryptedKeyBytes);
    data.set(encryptedKey, AT.encryptedKey);
  }
  if (type === TokenType.privateKey) {
    data.write(signature, AT.token + PRIVATE_KEY.signature, 'latin1');
  } else {
    const bytes = key ?? new Uint8Array(64).fill(0x11);
    data.writeUInt32LE(bytes.length, AT.token + PASSWORD.keyBytes);
    data.writeUInt32LE(token.keySet === false ? 0 : KEY_SET, AT.token + PASSWORD.flags);
    data.set(bytes, AT.token + PASSWORD.key);
    data.write(signature, AT.token + PASSWORD.signature, 'latin1');
    if (token.salt !== undefined) data.set(token.salt, AT.token + PASSWORD.salt);
  }
  return new Uint8Array(data);
}

/** A key in root's user keyring, by hand. Disposing takes it out again. */
export class KeyringKey implements AsyncDisposable {
  readonly #guest: TestGuest;
  readonly #id: string;

  private constructor(guest: TestGuest, id: string) {
    this.#guest = guest;
    this.#id = id;
  }

  /** One that is there already by that signature has another content then. */
  static async add(guest: TestGuest, token: AuthToken): Promise<KeyringKey> {
    const add = ['keyctl', 'padd', 'user', token.signature, '@u'];
    const { stdout } = await guest.run(add, { stdin: authToken(token) });
    return new KeyringKey(guest, stdout.trim());
  }

  /** What is in it now: `struct ecryptfs_auth_tok`. */
  async payload(): Promise<Uint8Array> {
    // `740 bytes of data in key:`, and hexadecimal digits in groups.
    const { stdout } = await this.#guest.run(['keyctl', 'read', this.#id]);
    const digits = stdout.slice(stdout.indexOf(':') + 1).replaceAll(/\s/g, '');
    return new Uint8Array(Buffer.from(digits, 'hex'));
  }

  async revoke(): Promise<void> {
    await this.#guest.run(['keyctl', 'revoke', this.#id]);
  }

  /** As if it had never been: it is taken out of all keyrings. */
  async invalidate(): Promise<void> {
    await this.#guest.run(['keyctl', 'invalidate', this.#id]);
  }

  /** It is valid for a second yet. */
  async letExpire(): Promise<void> {
    await this.#guest.run(['keyctl', 'timeout', this.#id, '1']);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // One that was invalidated is not there any more.
    await this.#guest.tryRun(['keyctl', 'unlink', this.#id, '@u']);
  }
}
