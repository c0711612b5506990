import type { Patch } from '#kernel/series/series.ts';
import { isKept, statementsOf, type Statement } from './statements.ts';

/**
 * Patches after which the tree holds code that a later patch of the series takes out again: what the kernel does
 * there cannot be told from the tip. Code that only gets something before or behind it is not taken out. Of
 * patches in a row with the same such code the last one. Pure.
 */
export function transientPatches(patches: readonly Patch[]): readonly number[] {
  const added = patches.map(({ diff }) => addedLines(diff));
  const found = new Set<number>();
  for (const [later, { diff }] of patches.entries()) {
    const earlier = added.slice(0, later);
    for (const line of takenOut(diff)) if (earlier.some((lines) => lines.has(line))) found.add(later);
  }
  // `later` counts from 0: the patch before it, counted from 1, has the same number.
  return [...found].toSorted((a, b) => a - b);
}

/** A hunk as it was and as it becomes, with the lines that change. */
interface Change {
  readonly file: string;
  readonly old: Side;
  readonly new: Side;
}

interface Side {
  readonly lines: string[];
  /** Indices in `lines` of those that only this side has. */
  readonly own: Set<number>;
}

function addedLines(diff: Uint8Array): ReadonlySet<string> {
  return new Set(changesOf(diff).flatMap(({ file, new: side }) => keysOf(file, side, side.own)));
}

/** Lines of statements that are not there any more afterwards. */
function takenOut(diff: Uint8Array): readonly string[] {
  return changesOf(diff).flatMap(({ file, old, new: side }) => {
    const after = statementsOf(side.lines);
    const gone = statementsOf(old.lines).filter(
      (statement) => touches(statement, old.own) && !after.some((other) => isKept(statement, other)),
    );
    const lines = gone.flatMap(({ from, to }) => [...old.own].filter((at) => at >= from && at < to));
    return keysOf(file, old, lines);
  });
}

function touches({ from, to }: Statement, lines: ReadonlySet<number>): boolean {
  for (let at = from; at < to; at += 1) if (lines.has(at)) return true;
  return false;
}

/** Lines with their file, without those too short to tell one from another. */
function keysOf(file: string, { lines }: Side, which: Iterable<number>): readonly string[] {
  return [...which]
    .map((at) => (lines[at] ?? '').trim())
    .filter((line) => line.length > 3)
    .map((line) => `${file} ${line}`);
}

function changesOf(diff: Uint8Array): readonly Change[] {
  const changes: Change[] = [];
  let file = '';
  let current: Change | undefined;
  for (const line of Buffer.from(diff).toString('latin1').split('\n')) {
    const header = /^(?:\+\+\+|---) (?:[ab]\/)?(\S+)/.exec(line);
    if (header?.[1] !== undefined) {
      file = header[1] === '/dev/null' ? file : header[1];
      current = undefined;
    } else if (line.startsWith('@@ ')) {
      current = { file, old: { lines: [], own: new Set() }, new: { lines: [], own: new Set() } };
      changes.push(current);
    } else if (current !== undefined) take(line, current);
  }
  return changes;
}

function take(line: string, change: Change): void {
  const text = line.slice(1);
  if (line.startsWith('+')) change.new.own.add(change.new.lines.push(text) - 1);
  else if (line.startsWith('-')) change.old.own.add(change.old.lines.push(text) - 1);
  else for (const side of [change.old, change.new]) side.lines.push(text);
}
