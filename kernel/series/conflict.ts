import { Buffer } from 'node:buffer';
import { type Evidence, Failure } from '#runner/lib/failure.ts';
import { type FileDiff, parseDiff } from './diff.ts';
import { printable } from './printable.ts';
import type { Patch } from './series.ts';

export interface Conflict {
  readonly patch: Patch;
  readonly count: number;
  /** What `git apply --verbose` said, in the C locale. */
  readonly stderr: string;
  /** The patch can be applied backwards: its change is in the tree. */
  readonly alreadyThere: boolean;
  readonly treeLabel: string;
  readonly evidence: readonly Evidence[];
}

/** One failed hunk or file, in words: `fs/fuse/file.c, hunk @@ -12,7 +12,9 @@ (line 20 of the patch)`. */
export function explainConflict(conflict: Conflict): Failure {
  const { patch } = conflict;
  const places = failedPlaces(conflict.stderr, patch);
  const where =
    places[0] ?? printable(conflict.stderr.split('\n').find((line) => line.startsWith('error:')) ?? '');
  const more = places.length > 1 ? ` and ${places.length - 1} more` : '';
  return new Failure(
    'E_SERIES_CONFLICT',
    'series',
    `patch ${patch.index}/${conflict.count} (${patch.subject}) does not apply to ${conflict.treeLabel}: ${where}${more}`,
    { hint: hint(conflict), evidence: conflict.evidence },
  );
}

function hint(conflict: Conflict): string {
  if (conflict.alreadyThere) {
    return `this change is in ${conflict.treeLabel} already: drop the patch`;
  }
  return 'rebase the series, or name the kernel that it was made for with --profile or --tree; .rej files in the kept worktree show what is left over';
}

function failedPlaces(stderr: string, patch: Patch): readonly string[] {
  const diffs = parseDiff(Buffer.from(patch.diff).toString('latin1'));
  const places: string[] = [];
  for (const line of stderr.split('\n')) {
    const hunk = /^error: patch failed: (.*):(\d+)$/u.exec(line);
    const missing = /^error: (.*): (No such file or directory|already exists in working directory)$/u.exec(
      line,
    );
    if (hunk?.[1] !== undefined) {
      places.push(`${printable(hunk[1])}, ${describeHunk(diffs, hunk[1], Number(hunk[2]), patch.strip)}`);
    } else if (missing?.[1] !== undefined) {
      const what =
        missing[2] === 'No such file or directory' ? 'is not in the tree' : 'is in the tree already';
      places.push(`${printable(missing[1])} ${what}`);
    }
  }
  return places;
}

function describeHunk(diffs: readonly FileDiff[], file: string, oldStart: number, strip: number): string {
  const hunks = diffs
    .filter((diff) => diff.names.some((name) => name.split('/').slice(strip).join('/') === file))
    .flatMap((diff) => diff.hunks);
  const index = hunks.findIndex((hunk) => hunk.oldStart === oldStart);
  const hunk = hunks[index];
  if (hunk === undefined) return `line ${oldStart}`;
  return `hunk ${index + 1} of ${hunks.length}: ${printable(hunk.header, 120)} (line ${hunk.line} of its diff)`;
}
