import type { Client } from './client.ts';
import type { KeyBytes } from './ecryptfs-format.ts';

export interface OverlayOptions {
  /** Uppermost first. */
  readonly lower: string | readonly string[];
  /** Both or none: without them the overlay is read-only. */
  readonly upper?: string | undefined;
  readonly work?: string | undefined;
  /** Further options: `redirect_dir=on,metacopy=on`. */
  readonly options?: string | undefined;
}

export interface MountRequest {
  readonly source: string;
  readonly type: string;
  readonly flags?: string | undefined;
  /** As for `mount -o`. */
  readonly options?: string | undefined;
}

/** A mount that a test made with mount(2). Disposing unmounts it. */
export class StackedMount implements AsyncDisposable {
  readonly path: string;
  readonly #client: Client;
  readonly #ownsClient: boolean;
  #mounted = true;

  /** `ownsClient`: the client was started for this mount and ends with it. */
  constructor(client: Client, path: string, ownsClient = true) {
    this.#client = client;
    this.#ownsClient = ownsClient;
    this.path = path;
  }

  file(name: string): string {
    return `${this.path}/${name}`;
  }

  /** @returns `ok` or the errno. */
  async unmount(flags = ''): Promise<string> {
    const errno = await this.#client.errno.umount2({ target: this.path, flags });
    if (errno === 'ok') this.#mounted = false;
    return errno;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#mounted) await this.unmount('MNT_DETACH');
    if (this.#ownsClient) await this.#client[Symbol.asyncDispose]();
  }
}

export function overlayRequest({ lower, upper, work, options }: OverlayOptions): MountRequest {
  const layers = typeof lower === 'string' ? lower : lower.join(':');
  const parts = [`lowerdir=${layers}`];
  if (upper !== undefined) parts.push(`upperdir=${upper}`);
  if (work !== undefined) parts.push(`workdir=${work}`);
  if (options !== undefined) parts.push(options);
  return { source: 'overlay', type: 'overlay', options: parts.join(',') };
}

/** The kernel finds the key by its signature in the caller's keyrings. */
export function ecryptfsRequest(lower: string, signature: string): MountRequest {
  return { source: lower, type: 'ecryptfs', options: ecryptfsOptions(signature) };
}

export interface EcryptfsOptions {
  /** Signature of the key that names are encrypted with; none: they are as they are. */
  readonly namesKey?: string | undefined;
  /** Of AES. Default 16. */
  readonly keyBytes?: KeyBytes | undefined;
  /** Further ones: `ecryptfs_encrypted_view`. */
  readonly more?: readonly string[] | undefined;
}

export function ecryptfsOptions(
  signature: string,
  { namesKey, keyBytes = 16, more = [] }: EcryptfsOptions = {},
): string {
  const names = namesKey === undefined ? [] : [`ecryptfs_fnek_sig=${namesKey}`, 'ecryptfs_fn_key_bytes=16'];
  const data = [`ecryptfs_sig=${signature}`, 'ecryptfs_cipher=aes', `ecryptfs_key_bytes=${keyBytes}`];
  return [...data, ...names, ...more].join(',');
}
