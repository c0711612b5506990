import type { Patch } from '#kernel/series/series.ts';

/**
 * Patches after which the tree holds lines that a later patch of the series takes out again: what the kernel does
 * there cannot be told from the tip. Of patches in a row with the same such lines the last one. Pure.
 */
export function transientPatches(patches: readonly Patch[]): readonly number[] {
  const added = patches.map(({ diff }) => changedLines(diff, '+'));
  const removed = patches.map(({ diff }) => changedLines(diff, '-'));
  const found = new Set<number>();
  for (const [later, lines] of removed.entries()) {
    for (const earlier of added.slice(0, later)) {
      if ([...lines].some((line) => earlier.has(line))) found.add(later);
    }
  }
  // `later` counts from 0: the patch before it, counted from 1, has the same number.
  return [...found].toSorted((a, b) => a - b);
}

/** Lines with file and side, without those too short to tell one from another. */
function changedLines(diff: Uint8Array, side: '+' | '-'): ReadonlySet<string> {
  const lines = new Set<string>();
  let file = '';
  for (const line of Buffer.from(diff).toString('latin1').split('\n')) {
    const header = /^(?:\+\+\+|---) (?:[ab]\/)?(\S+)/.exec(line);
    if (header?.[1] !== undefined) file = header[1] === '/dev/null' ? file : header[1];
    else if (line.startsWith(side) && line.slice(1).trim().length > 3)
      lines.add(`${file} ${line.slice(1).trim()}`);
  }
  return lines;
}
