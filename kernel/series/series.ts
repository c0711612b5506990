import { createHash } from 'node:crypto';
import type { Trailers } from './trailers.ts';

/** One change, as it will be applied. */
export interface Patch {
  /** Position in the series, from 1. */
  readonly index: number;
  /** Without `[PATCH n/m]` and control characters. */
  readonly subject: string;
  /** `Name <address>` when the patch says so. */
  readonly author: string | null;
  /** The commit message below the subject. */
  readonly message: string;
  /** The diff, byte for byte; the kernel has files that are not UTF-8. */
  readonly diff: Uint8Array;
  /** Leading path components to strip, as `git apply -p`. */
  readonly strip: number;
  /** Every path it reads, writes, renames or deletes, relative to the tree. */
  readonly files: readonly string[];
  /** sha256 of what it changes: the same for a resend with other trailers or blob names. */
  readonly fingerprint: string;
}

export interface Series {
  /** Short name for reports: the file's or directory's name, or the range. */
  readonly name: string;
  /** The cover letter's subject, else the only patch's; the name when there is neither. */
  readonly title: string;
  readonly patches: readonly Patch[];
  /** sha256 over the patches' fingerprints. */
  readonly fingerprint: string;
  /** What was put right in reading it: order, duplicates, other versions; one sentence each. */
  readonly notes?: readonly string[];
  readonly trailers?: Trailers;
}

export function fingerprintOf(patches: readonly Pick<Patch, 'fingerprint'>[]): string {
  const hash = createHash('sha256');
  for (const patch of patches) hash.update(`${patch.fingerprint}\n`);
  return hash.digest('hex');
}

/** The first `count` patches, for a look at each step of a series. */
export function prefixOf(series: Series, count: number): Series {
  const patches = series.patches.slice(0, count);
  return { ...series, patches, fingerprint: fingerprintOf(patches) };
}
