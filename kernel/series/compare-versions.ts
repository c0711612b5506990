import { canonicalDiff } from './diff.ts';
import type { Patch, Series } from './series.ts';

/** How a later version of a series differs from an earlier one, by numbers of the later one. */
export interface VersionDifference {
  /** The same change as before, whatever its message says now. */
  readonly same: readonly number[];
  /** A patch of the same subject with another diff. */
  readonly changed: readonly number[];
  readonly added: readonly number[];
  /** Subjects that the later version no longer has. */
  readonly dropped: readonly string[];
}

/** Patches are matched by what they change, then by subject. Pure. */
export function compareVersions(older: Series, newer: Series): VersionDifference {
  const left = new Set(older.patches);
  const take = (fits: (patch: Patch) => boolean): boolean => {
    const found = [...left].find(fits);
    return found !== undefined && left.delete(found);
  };
  const same = newer.patches.filter((patch) => {
    const change = changeOf(patch);
    return take((other) => other.subject === patch.subject && changeOf(other) === change);
  });
  const unlike = newer.patches.filter((patch) => !same.includes(patch));
  const moved = unlike.filter((patch) => {
    const change = changeOf(patch);
    return take((other) => changeOf(other) === change);
  });
  const rest = unlike.filter((patch) => !moved.includes(patch));
  const changed = rest.filter((patch) => take((other) => nameOf(other) === nameOf(patch)));
  return {
    same: numbers([...same, ...moved]),
    changed: numbers(changed),
    added: numbers(rest.filter((patch) => !changed.includes(patch))),
    dropped: [...left].map(({ subject }) => subject),
  };
}

/** The lines that a patch adds and removes, by file: context and line numbers move with what comes before it. */
function changeOf({ diff }: Patch): string {
  return canonicalDiff(Buffer.from(diff).toString('latin1'))
    .split('\n')
    .filter((line) => /^[+-]|^(?:rename|copy|new|deleted|old) /u.test(line))
    .join('\n');
}

function nameOf({ subject }: Patch): string {
  return subject.toLowerCase().replaceAll(/\s+/gu, ' ').trim();
}

function numbers(patches: readonly Patch[]): readonly number[] {
  return patches.map(({ index }) => index).toSorted((a, b) => a - b);
}

/**
 * A whole series as one change: what became of everything between two versions, where prefixes of the one have
 * nothing to do with the other. Pure.
 */
export function asOneChange(older: Series, newer: Series): Patch {
  const files = [...older.patches, ...newer.patches].flatMap((patch) => patch.files);
  return {
    index: 1,
    subject: `${newer.name} in place of ${older.name}`,
    author: null,
    message: '',
    diff: new Uint8Array(),
    strip: 1,
    files: [...new Set(files)].toSorted(),
    fingerprint: newer.fingerprint,
  };
}
