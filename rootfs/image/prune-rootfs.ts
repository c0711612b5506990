import { pruneEntries } from '#runner/lib/prune-entries.ts';

/** Guest images to keep, the last used first; each has about 400 MB. */
const KEEP = 3;

/** Machines read their image as long as they run: one that was asked for this lately is taken as in use. */
const IN_USE_MS = 24 * 60 * 60 * 1000;

/** Deletes the guest images that were not used for longest. @returns the deleted directories. */
export function pruneRootfs(keep = KEEP): Promise<readonly string[]> {
  return pruneEntries({ area: 'rootfs', keep, inUseMs: IN_USE_MS });
}
