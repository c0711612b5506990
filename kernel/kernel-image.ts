/**
 * A kernel that can be booted. Immutable, and shared between runs through the cache: nobody writes below
 * `dir`, and nobody deletes it but `fusegate clean` and the cache's own pruning.
 */
export interface KernelImage {
  /** Content address: source, series, config fragments, compiler and make arguments. Lower-case hex. */
  readonly key: string;
  readonly bzImage: string;
  /** The final .config; `undefined` for a ready-made image (`--kernel`). */
  readonly config: string | undefined;
  /** Unstripped vmlinux for symbol look-up, when it was kept. */
  readonly vmlinux: string | undefined;
  /** `make kernelrelease`, as `uname -r` will print it in the guest. */
  readonly release: string;
  /** sha256 of the bzImage file, lower-case hex. */
  readonly imageSha256: string;
  readonly profile: string;
  readonly role: 'base' | 'patched';
  /** What was applied, by the series' own name; `null` for none. */
  readonly series: string | null;
  readonly patch: { readonly index: number; readonly subject: string } | null;
}
