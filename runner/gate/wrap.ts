/** What a mail to a kernel list should not exceed. Columns. */
export const COLUMNS = 72;

/** Breaks a paragraph into lines of at most COLUMNS, the first after `first`, the others after `rest`. Pure. */
export function wrap(text: string, first = '', rest = first): readonly string[] {
  const lines: string[] = [];
  let line = first;
  let empty = true;
  // A number stays with its percent sign.
  for (const word of text.split(/\s+(?!%(?:\s|$))/).filter((part) => part !== '')) {
    const next = empty ? `${line}${word}` : `${line} ${word}`;
    if (next.length <= COLUMNS) {
      line = next;
      empty = false;
      continue;
    }
    if (!empty) {
      lines.push(line);
      line = rest;
    }
    // A word that no line holds is cut; nobody pastes it back together anyway.
    for (line = `${line}${word}`; line.length > COLUMNS; line = `${rest}${line.slice(COLUMNS)}`) {
      lines.push(line.slice(0, COLUMNS));
    }
    empty = false;
  }
  return empty ? lines : [...lines, line];
}

/** One line of at most COLUMNS. */
export function cut(text: string, columns = COLUMNS): string {
  return text.length <= columns ? text : `${text.slice(0, columns - 3)}...`;
}
