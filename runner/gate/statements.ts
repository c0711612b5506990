/** A statement of C, or what comes nearest to one in any other text: a line. */
export interface Statement {
  /** Lines, `to` not included. */
  readonly from: number;
  readonly to: number;
  /** White space before it: how deep it is nested. */
  readonly indent: string;
  /** Its text with single blanks. */
  readonly text: string;
}

/** What a line of C ends with when its statement or label goes no further. */
const END = /[;{}:]$|\*\/$/;

/** Pure. A part of a file may begin and end within a statement. */
export function statementsOf(lines: readonly string[]): readonly Statement[] {
  const statements: Statement[] = [];
  let from = 0;
  for (let at = 0; at < lines.length; at += 1) {
    const line = (lines[at] ?? '').trim();
    if (line !== '' && !line.startsWith('#') && !END.test(line) && at < lines.length - 1) continue;
    const whole = lines.slice(from, at + 1);
    const text = whole.join(' ').replaceAll(/\s+/g, ' ').trim();
    if (text !== '')
      statements.push({ from, to: at + 1, indent: /^\s*/.exec(whole[0] ?? '')?.[0] ?? '', text });
    from = at + 1;
  }
  return statements;
}

/**
 * Whether the same is still done in the same place: the statement is there, or what it returned is kept in a
 * variable now, or the other way round. Pure.
 */
export function isKept(statement: Statement, other: Statement): boolean {
  if (statement.indent !== other.indent) return false;
  if (statement.text === other.text) return true;
  const [before, after] = [resultOf(statement.text), resultOf(other.text)];
  return before !== undefined && before.value === after?.value && before.returned !== after.returned;
}

interface Result {
  readonly value: string;
  readonly returned: boolean;
}

/** The expression whose value is returned, or kept in a variable of its function. */
function resultOf(text: string): Result | undefined {
  const found = /^(?:(?<returned>return)|\w+ =) (?<value>.+);$/.exec(text)?.groups;
  const value = found?.['value'];
  return value === undefined ? undefined : { value, returned: found?.['returned'] !== undefined };
}
