import type { ParsedSource, Part, Range } from './statements.ts';
import type { Token } from './tokens.ts';

/**
 * Mutation operators: what a typing or thinking mistake of one line may do to C. Each keeps the right code and
 * puts the wrong one beside it, so that one kernel has all of them. They are pure and only insert.
 */

/** Something wrong that can be chosen. */
export interface Mutation {
  /** Offset of the place, into the source. */
  readonly at: number;
  readonly function: string;
  /** What is wrong with it, with the code as it was. */
  readonly what: string;
  /** Text to insert; `number` is the mutant's own. */
  readonly edits: (number: number) => readonly Edit[];
}

export interface Edit {
  readonly at: number;
  readonly text: string;
  /** Of what the text belongs to: what is opened first is closed last. */
  readonly span: { readonly at: number; readonly end: number };
  readonly side: 'before' | 'behind';
}

/** All mutations of a source, in the order of their places. */
export function mutationsOf(parsed: ParsedSource): readonly Mutation[] {
  const fixed = fixedNames(parsed);
  return parsed.parts
    .flatMap((part) => [
      ...leftOut(parsed, part),
      ...conditionsOf(parsed, part)
        .filter((leaf) => !hasFixed(parsed, leaf, fixed.get(part.function)))
        .flatMap((leaf) => turned(parsed, part, leaf)),
      ...words(parsed, part),
      ...otherResult(parsed, part),
    ])
    .toSorted((a, b) => a.at - b.at);
}

/** Statements whose absence nobody can see: they print, trace or assert. */
const SILENT = /^(?:pr_|printk|trace_|lockdep_|might_|WARN|BUG|ASSERT|ecryptfs_printk|cond_resched)/;

/** A lock that is not taken shows in a race alone, and one that is not given back stops everybody. */
const LOCKING = /(?:^|_)(?:un|b)?lock(?:_|$)|^(?:down|up)_(?:read|write)/;

function leftOut({ source, tokens }: ParsedSource, part: Part): readonly Mutation[] {
  if (part.kind !== 'expression' && part.kind !== 'jump') return [];
  const first = tokens[part.from]?.text ?? '';
  if (SILENT.test(first) || LOCKING.test(first)) return [];
  const span = spanOf(tokens, part);
  if (hasDirective(source, span)) return [];
  return [
    {
      at: span.at,
      function: part.function,
      what: `left out: ${brief(source, span)}`,
      edits: (number) => around(span, `{ if (!MUTANT(${number})) `, ' }'),
    },
  ];
}

/** What decides: the operands of && and || of a condition or a truth value, and what stands before a `?`. */
function conditionsOf(parsed: ParsedSource, part: Part): readonly Range[] {
  const decided = ternaries(parsed, part).flatMap((range) => leavesOf(parsed, range));
  if (part.kind === 'jump') return [];
  if (part.kind === 'condition') return [...leavesOf(parsed, part), ...decided];
  const value = part.kind === 'expression' ? assigned(parsed, part) : part;
  const leaves =
    value === undefined || topLevel(parsed, value, ['?']) !== undefined ? [] : leavesOf(parsed, value);
  const isTruth =
    leaves.length > 1 || leaves.some((leaf) => topLevel(parsed, leaf, COMPARISONS) !== undefined);
  return [...(isTruth ? leaves : []), ...decided];
}

const ASSIGNMENTS = ['=', '+=', '-=', '|=', '&=', '^=', '<<=', '>>=', '*=', '/=', '%='];
const COMPARISONS = ['==', '!=', '<', '<=', '>', '>='];

/** What stands behind the `=`. */
function assigned(parsed: ParsedSource, { from, to }: Range): Range | undefined {
  const sign = topLevel(parsed, { from, to }, ASSIGNMENTS);
  return sign === undefined ? undefined : { from: sign + 1, to: to - 1 };
}

/** Conditions of `?:`, wherever they stand in a part. */
function ternaries({ tokens, openers }: ParsedSource, { from, to }: Range): readonly Range[] {
  const found: Range[] = [];
  for (let index = from; index < to; index += 1) {
    // `a ?: b` has no other branch to take.
    if (tokens[index]?.text !== '?' || tokens[index + 1]?.text === ':') continue;
    let begin = index;
    while (begin > from && !isBorder(tokens[begin - 1])) begin = openers.get(begin - 1) ?? begin - 1;
    if (begin < index) found.push({ from: begin, to: index });
  }
  return found;
}

const BORDERS = new Set([...ASSIGNMENTS, ',', '(', '[', '{', '?', ':', ';', 'return']);

function isBorder(token: Token | undefined): boolean {
  return token === undefined || BORDERS.has(token.text);
}

function leavesOf(parsed: ParsedSource, range: Range): readonly Range[] {
  const { tokens, brackets } = parsed;
  const { from, to } = range;
  if (from >= to) return [];
  const inner = insideOf(tokens, brackets, range);
  if (inner !== undefined) return leavesOf(parsed, inner);
  if (topLevel(parsed, range, [...ASSIGNMENTS, '?', ',']) !== undefined) return [range];
  for (const sign of ['||', '&&']) {
    const at = topLevel(parsed, range, [sign]);
    if (at === undefined) continue;
    return [...leavesOf(parsed, { from, to: at }), ...leavesOf(parsed, { from: at + 1, to })];
  }
  return [range];
}

/** `(…)`, `!(…)`, `likely(…)` and `unlikely(…)` decide by what they hold. */
function insideOf(
  tokens: readonly Token[],
  brackets: ReadonlyMap<number, number>,
  { from, to }: Range,
): Range | undefined {
  const first = tokens[from]?.text ?? '';
  const open = ['!', 'likely', 'unlikely'].includes(first) ? from + 1 : from;
  if (tokens[open]?.text !== '(' || brackets.get(open) !== to - 1) return undefined;
  return { from: open + 1, to: to - 1 };
}

/** The first of these in no bracket of the range. */
function topLevel(
  { tokens, brackets }: ParsedSource,
  { from, to }: Range,
  texts: readonly string[],
): number | undefined {
  for (let index = from; index < to; index += 1) {
    if (texts.includes(tokens[index]?.text ?? '')) return index;
    index = brackets.get(index) ?? index;
  }
  return undefined;
}

/** Decided when the kernel is compiled, or about what cannot be in a guest without it. */
const FIXED = /\b(?:IS_ENABLED|IS_BUILTIN|IS_MODULE|BUILD_BUG\w*|__builtin_\w+)\b|dax|DAX/;

/** By function: variables that get a value decided so. */
function fixedNames({ source, tokens, parts }: ParsedSource): ReadonlyMap<string, ReadonlySet<string>> {
  const found = new Map<string, Set<string>>();
  for (const part of parts) {
    const { at, end } = spanOf(tokens, part);
    if (part.kind !== 'initial' || !FIXED.test(source.slice(at, end))) continue;
    const names = found.get(part.function) ?? new Set();
    found.set(part.function, names.add(tokens[part.from - 2]?.text ?? ''));
  }
  return found;
}

function hasFixed(
  { source, tokens }: ParsedSource,
  leaf: Range,
  names: ReadonlySet<string> = new Set(),
): boolean {
  const { at, end } = spanOf(tokens, leaf);
  return (
    FIXED.test(source.slice(at, end)) || tokens.slice(leaf.from, leaf.to).some(({ text }) => names.has(text))
  );
}

const NEIGHBOURS: Readonly<Record<string, string>> = { '<': '<=', '<=': '<', '>': '>=', '>=': '>' };

/** A condition that is taken for the opposite, and a comparison that is one off. */
function turned(parsed: ParsedSource, part: Part, leaf: Range): readonly Mutation[] {
  const { source, tokens } = parsed;
  const span = spanOf(tokens, leaf);
  const code = source.slice(span.at, span.end);
  const isConstant = leaf.to - leaf.from === 1 && /^(?:\d|true$|false$)/.test(code);
  if (isConstant || hasDirective(source, span)) return [];
  const common = { at: span.at, function: part.function };
  const text = brief(source, span);
  const outcome = (what: string, wrap: (number: number) => string): Mutation => ({
    ...{ ...common, what },
    edits: (number) => around(span, '((', wrap(number)),
  });
  return [
    outcome(`taken for false when true: ${text}`, (number) => `) && !MUTANT(${number}))`),
    outcome(`taken for true when false: ${text}`, (number) => `) || MUTANT(${number}))`),
    ...oneOff(parsed, leaf).map((wrong) => ({
      ...{ ...common, what: `one off: ${text}` },
      edits: (number: number) => around(span, `(MUTANT(${number}) ? (${wrong}) : (`, '))'),
    })),
  ];
}

/** `a < b` → `a <= b`, where it is all there is. */
function oneOff(parsed: ParsedSource, leaf: Range): readonly string[] {
  const { source, tokens } = parsed;
  const at = topLevel(parsed, leaf, Object.keys(NEIGHBOURS));
  const sign = at === undefined ? undefined : tokens[at];
  if (sign === undefined || topLevel(parsed, leaf, [...ASSIGNMENTS, '?', ',']) !== undefined) return [];
  const span = spanOf(tokens, leaf);
  const code = `${source.slice(span.at, sign.at)}${NEIGHBOURS[sign.text] ?? ''}${source.slice(sign.end, span.end)}`;
  return [code.replaceAll(/\/\*[^]*?\*\//g, ' ').replaceAll(/\s+/g, ' ')];
}

/** Error codes, numbers that are added, flags and truth values. */
function words({ source, tokens }: ParsedSource, part: Part): readonly Mutation[] {
  if (part.kind === 'jump' || FIXED.test(source.slice(spanOf(tokens, part).at, spanOf(tokens, part).end)))
    return [];
  const found: Mutation[] = [];
  for (let index = part.from; index < part.to; index += 1) {
    const other = otherWord(tokens, index);
    if (other === undefined) continue;
    const span = spanOf(tokens, { from: index - other.before, to: index + 1 });
    found.push({
      at: span.at,
      function: part.function,
      what: `${other.what} in: ${brief(source, spanOf(tokens, part))}`,
      edits: (number) => around(span, `(MUTANT(${number}) ? ${other.code} : `, ')'),
    });
  }
  return found;
}

interface OtherWord {
  readonly code: string;
  readonly what: string;
  /** Tokens before the word that are replaced with it. */
  readonly before: number;
}

/** A token with its neighbours. */
interface Place {
  readonly text: string;
  readonly before: string;
  readonly next: string;
  /** Whether a `+` or `-` before it has a left side. */
  readonly isAdded: boolean;
}

const OTHER_WORDS: readonly ((place: Place) => OtherWord | undefined)[] = [
  ({ text, before }) => {
    if (before !== '-' || !/^E[A-Z0-9]{2,}$/.test(text)) return undefined;
    const code = text === 'EIO' ? '-EINVAL' : '-EIO';
    return { code, what: `${code} instead of -${text}`, before: 1 };
  },
  ({ text, before, next }) => {
    if (next === '(' || (before !== '|' && next !== '|')) return undefined;
    return /^[A-Z][A-Z0-9_]{2,}$/.test(text) ? { code: '0', what: `without ${text}`, before: 0 } : undefined;
  },
  ({ text }) => {
    if (text !== 'true' && text !== 'false') return undefined;
    const code = text === 'true' ? 'false' : 'true';
    return { code, what: `${code} instead of ${text}`, before: 0 };
  },
  ({ text, before, isAdded }) =>
    isAdded && /^[1-9]/.test(text) ? { code: '0', what: `without ${before} ${text}`, before: 0 } : undefined,
];

function otherWord(tokens: readonly Token[], index: number): OtherWord | undefined {
  const textOf = (at: number): string => tokens[at]?.text ?? '';
  const before = textOf(index - 1);
  const place: Place = {
    ...{ text: textOf(index), before, next: textOf(index + 1) },
    isAdded: ['+', '-'].includes(before) && /[\w)\]]$/.test(textOf(index - 2)),
  };
  for (const other of OTHER_WORDS) {
    const found = other(place);
    if (found !== undefined) return found;
  }
  return undefined;
}

/** An error that is swallowed, and one that is none. */
function otherResult({ source, tokens }: ParsedSource, part: Part): readonly Mutation[] {
  if (part.kind !== 'result' || part.to - part.from !== 1) return [];
  const text = tokens[part.from]?.text ?? '';
  const code = text === '0' ? '-EIO' : /^(?:err|error|ret|res|rc|retval)$/.test(text) ? '0' : undefined;
  if (code === undefined) return [];
  const span = spanOf(tokens, part);
  return [
    {
      at: span.at,
      function: part.function,
      what: `returns ${code} instead of ${brief(source, span)}`,
      edits: (number) => around(span, `(MUTANT(${number}) ? ${code} : `, ')'),
    },
  ];
}

function around(span: Edit['span'], before: string, behind: string): readonly Edit[] {
  return [
    { at: span.at, text: before, span, side: 'before' },
    { at: span.end, text: behind, span, side: 'behind' },
  ];
}

function spanOf(tokens: readonly Token[], { from, to }: Range): Edit['span'] {
  return { at: tokens[from]?.at ?? 0, end: tokens[to - 1]?.end ?? 0 };
}

/** A line of the preprocessor inside: what it leaves out, nobody knows here. */
function hasDirective(source: string, { at, end }: Edit['span']): boolean {
  return /\n[ \t]*#/.test(source.slice(at, end));
}

const BRIEF_CHARACTERS = 90;

function brief(source: string, { at, end }: Edit['span']): string {
  const text = source.slice(at, end).replaceAll(/\s+/g, ' ');
  return text.length <= BRIEF_CHARACTERS ? text : `${text.slice(0, BRIEF_CHARACTERS)}…`;
}
