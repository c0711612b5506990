/** A token of C, as far as statements need it; comments and lines of the preprocessor are none. */
export interface Token {
  readonly kind: 'word' | 'number' | 'text' | 'punctuator';
  readonly text: string;
  /** Offsets into the source, in UTF-16 units; `end` is behind the last one. */
  readonly at: number;
  readonly end: number;
}

/** The longest first, as C reads them (C11 6.4.6). */
const PUNCTUATORS =
  /\.\.\.|<<=|>>=|->|\+\+|--|<<|>>|<=|>=|==|!=|&&|\|\||[-*/%+&^|]=|[[\](){}.&*+\-~!/%<>^|?:;=,#]/y;

const PATTERNS = {
  skipped: /\s+|\/\/(?:\\\n|[^\n])*|\/\*[^]*?\*\/|\\\n/y,
  directive: /#(?:\/\*[^]*?\*\/|\\\n|[^\n])*/y,
  word: /[A-Za-z_]\w*/y,
  number: /\.?\d(?:[eEpP][+-]|[\w.])*/y,
  text: /"(?:\\[^]|[^"\\])*"|'(?:\\[^]|[^'\\])*'/y,
  punctuator: PUNCTUATORS,
} as const;

const KINDS = ['word', 'number', 'text', 'punctuator'] as const;

/** Pure. What is no C is left out, a character at a time. */
export function tokensOf(source: string): readonly Token[] {
  const tokens: Token[] = [];
  let at = 0;
  let lineBegins = true;
  const matchAt = (pattern: RegExp): string | undefined => {
    pattern.lastIndex = at;
    return pattern.exec(source)?.[0];
  };
  const tokenAt = (): Token | undefined => {
    for (const kind of KINDS) {
      const text = matchAt(PATTERNS[kind]);
      if (text !== undefined) return { kind, text, at, end: at + text.length };
    }
    return undefined;
  };
  while (at < source.length) {
    const skipped: string | undefined =
      matchAt(PATTERNS.skipped) ?? (lineBegins ? matchAt(PATTERNS.directive) : undefined);
    if (skipped !== undefined) {
      lineBegins ||= skipped.includes('\n');
      at += skipped.length;
      continue;
    }
    lineBegins = false;
    const token = tokenAt();
    if (token !== undefined) tokens.push(token);
    at = token?.end ?? at + 1;
  }
  return tokens;
}

const CLOSERS: Readonly<Record<string, string>> = { '(': ')', '[': ']', '{': '}' };

/**
 * For each opening bracket the index of its closing one. Those that fit to none, as where both branches of an
 * #if open the same block, are not in it. Pure.
 */
export function bracketsOf(tokens: readonly Token[]): ReadonlyMap<number, number> {
  const pairs = new Map<number, number>();
  const open: number[] = [];
  for (const [index, { kind, text }] of tokens.entries()) {
    if (kind !== 'punctuator') continue;
    if (text in CLOSERS) open.push(index);
    if (!')]}'.includes(text)) continue;
    const from = open.at(-1);
    if (from === undefined || CLOSERS[tokens[from]?.text ?? ''] !== text) continue;
    open.pop();
    pairs.set(from, index);
  }
  return pairs;
}
