import { mutationsOf, type Edit } from './operators.ts';
import { parseSource } from './statements.ts';

/** A mutant of a kernel that has many: its number in `MUTANT(number)`, and what is wrong with it. */
export interface PlacedMutant {
  readonly number: number;
  /** Path below the source. */
  readonly file: string;
  /** Of the source without mutants, from 1. */
  readonly line: number;
  /** With line, function and the code as it was. */
  readonly what: string;
}

export interface MutatedSource {
  readonly text: string;
  readonly mutants: readonly PlacedMutant[];
}

/**
 * A C file with all its mutants, each inactive until its number is chosen.
 * @param first the number of the first of them
 */
export function mutateSource(file: string, source: string, first: number): MutatedSource {
  const mutations = mutationsOf(parseSource(source));
  if (mutations.length === 0) return { text: source, mutants: [] };
  const lineOf = lineCounter(source);
  const mutants = mutations.map(({ at, function: name, what }, index): PlacedMutant => {
    const line = lineOf(at);
    return { number: first + index, file, line, what: `line ${line}, ${name}(): ${what}` };
  });
  const edits = mutations.flatMap(({ edits: of }, index) => of(first + index));
  return { text: withHeader(insert(source, edits)), mutants };
}

/** The line of each offset, from 1, for offsets that never go back. */
function lineCounter(source: string): (at: number) => number {
  let [line, counted] = [1, 0];
  return (at) => {
    for (; counted < at; counted += 1) if (source[counted] === '\n') line += 1;
    return line;
  };
}

/** What is opened first is closed last, and at one place what ends there ends before anything begins. */
function insert(source: string, edits: readonly Edit[]): string {
  const ordered = edits
    .map((edit, index) => ({ ...edit, index }))
    .toSorted((a, b) => {
      if (a.at !== b.at) return a.at - b.at;
      if (a.side !== b.side) return a.side === 'behind' ? -1 : 1;
      if (a.side === 'before') return b.span.end - a.span.end || a.index - b.index;
      return b.span.at - a.span.at || b.index - a.index;
    });
  let text = '';
  let at = 0;
  for (const edit of ordered) {
    text += source.slice(at, edit.at) + edit.text;
    at = edit.at;
  }
  return text + source.slice(at);
}

/** Without its last jump a function may end without a result, which kbuild makes an error of. */
const HEADER = '#include <linux/fusegate_mutant.h>\n#pragma GCC diagnostic ignored "-Wreturn-type"\n';

/** Every file of the kernel includes something, before its first function. */
function withHeader(text: string): string {
  return text.replace(/^[ \t]*#[ \t]*include\b/m, `${HEADER}$&`);
}
