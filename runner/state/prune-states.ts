import { pruneEntries } from '#runner/lib/prune-entries.ts';

/** Saved machines to keep, the last used first; each has about 200 MB. */
const KEEP = 8;
/** Machines read their state while they are restored: one that was asked for this lately may be in use. */
const IN_USE_MS = 60 * 60 * 1000;

/** Deletes the saved machines that were not used for longest. @returns the deleted directories. */
export function pruneStates(): Promise<readonly string[]> {
  return pruneEntries({ area: 'states', keep: KEEP, inUseMs: IN_USE_MS });
}
