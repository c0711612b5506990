import type { Emit } from '#runner/lib/events.ts';

/**
 * Unpatched kernel sources, unpacked in the cache and never changed there: build trees are linked from it.
 */
export interface SourceTree {
  /** Content address, lower-case hex. Equal for equal contents of the same kind of source. */
  readonly id: string;
  /** Where it is from, for people: `linux-source-6.12 6.12.117-1`, `~/linux at v6.12`. */
  readonly label: string;
  /** The pristine tree. */
  readonly dir: string;
  /** Build trees with the same lineage are brought from one source to the next instead of started anew. */
  readonly lineage: string;
  /** A tree of the user's own: what is wrong with it is not the infrastructure's fault. */
  readonly own: boolean;
  /** Nothing was fetched or unpacked. */
  readonly cached: boolean;
}

export interface SourceContext {
  readonly emit: Emit;
  readonly signal: AbortSignal;
}
