import type { Client } from './client.ts';

/** What a layer says of a file that is metadata alone (overlayfs.rst, metadata only copy up). */
export interface Says {
  readonly size?: number;
  /** The mark itself; default the empty one. */
  readonly mark?: Uint8Array | undefined;
  readonly redirect?: string | undefined;
}

/** Makes a file of some size without data, and marks it so. */
export async function metadataAlone(
  client: Client,
  path: string,
  { size = 20, mark = new Uint8Array(), redirect }: Says = {},
): Promise<void> {
  await client.writeFile({ path, data: '', mode: 0o644 });
  await client.truncate({ path, length: size });
  await client.setxattr({ path, name: 'trusted.overlay.metacopy', data: mark });
  if (redirect !== undefined) {
    await client.setxattr({ path, name: 'trusted.overlay.redirect', data: redirect });
  }
}

/** `struct ovl_metacopy` with a digest of zeros, which is none of any data (fs/overlayfs/overlayfs.h). */
export const WITH_DIGEST = Uint8Array.from([0, 4 + 32, 0, 1, ...new Uint8Array(32)]);
