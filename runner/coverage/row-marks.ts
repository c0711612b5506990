/** `(A5)`, `(B2-B4, B25)`, `(H2, K04)` at the end of a title. */
const MARKS = /\((?<marks>[A-Z]\d+(?:-[A-Z]\d+)?(?:, ?[A-Z]\d+(?:-[A-Z]\d+)?)*)\)$/u;

/** The rows that a title names, ranges spelt out. Whether there are such rows is not asked. Pure. */
export function rowMarks(title: string): readonly string[] {
  const marks = MARKS.exec(title)?.groups?.['marks'];
  return marks === undefined ? [] : marks.split(/, ?/u).flatMap(spellOut);
}

function spellOut(mark: string): readonly string[] {
  const range = /^(?<area>[A-Z])(?<from>\d+)-\k<area>(?<to>\d+)$/u.exec(mark)?.groups;
  if (range === undefined) return [mark];
  const [from, to] = [Number(range['from']), Number(range['to'])];
  const width = range['from']?.startsWith('0') === true ? 2 : 1;
  return Array.from(
    { length: Math.max(0, to - from + 1) },
    (_, at) => `${range['area'] ?? ''}${String(from + at).padStart(width, '0')}`,
  );
}
