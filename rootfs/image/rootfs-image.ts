/** What a machine boots from, apart from the kernel. Content-addressed, shared, never written to. */
export interface RootfsImage {
  /** Content address of manifest, packages, init and tools. Lower-case hex. */
  readonly key: string;
  /** Read-only ext4 root filesystem, attached as the first virtio disk (/dev/vda). */
  readonly rootDisk: string;
  /** gzip-compressed newc archive with the early init; per-run keys are appended to it as a second archive. */
  readonly initramfs: string;
  /** Freshly made ext4 filesystem, attached as /dev/vdb with writes thrown away: the backing filesystem. */
  readonly scratchDisk: string;
}
