import { bracketsOf, tokensOf, type Token } from './tokens.ts';

/** Tokens from `from` up to, and without, `to`. */
export interface Range {
  readonly from: number;
  readonly to: number;
}

/** What a function consists of, flat and in the order of the source. */
export interface Part extends Range {
  /**
   * `condition`: what an if, a loop or a `?` decides by. `expression`: a statement that assigns or calls, with
   * its semicolon. `jump`: goto, break, continue, or a return of nothing, with its semicolon. `result`: what a
   * return gives. `initial`: the value in a declaration.
   */
  readonly kind: 'condition' | 'expression' | 'jump' | 'result' | 'initial';
  readonly function: string;
}

export interface ParsedSource {
  readonly source: string;
  readonly tokens: readonly Token[];
  /** From each opening bracket to its closing one. */
  readonly brackets: ReadonlyMap<number, number>;
  /** And back. */
  readonly openers: ReadonlyMap<number, number>;
  readonly parts: readonly Part[];
}

/** The functions of a C file in the kernel's style. Pure; what it does not understand it leaves out. */
export function parseSource(source: string): ParsedSource {
  const tokens = tokensOf(source);
  const brackets = bracketsOf(tokens);
  const parts: Part[] = [];
  for (let index = 0; index < tokens.length; index += 1) {
    const end = tokens[index]?.text === '{' ? brackets.get(index) : undefined;
    if (end === undefined) continue;
    const name = functionName(tokens, brackets, index);
    if (name !== undefined) new BodyReader(tokens, brackets, name, parts).block(index, end);
    index = end;
  }
  const openers = new Map([...brackets].map(([open, close]) => [close, open]));
  return { source, tokens, brackets, openers, parts };
}

/** Of the function whose body begins with this brace; `undefined` for a struct or a table. */
function functionName(
  tokens: readonly Token[],
  brackets: ReadonlyMap<number, number>,
  brace: number,
): string | undefined {
  if (tokens[brace - 1]?.text !== ')') return undefined;
  let begin = brace - 1;
  while (begin > 0 && !';}'.includes(tokens[begin - 1]?.text ?? '')) begin -= 1;
  for (let index = begin; index < brace; index += 1) {
    if (tokens[index]?.text === '(' && tokens[index - 1]?.kind === 'word') return tokens[index - 1]?.text;
    if (tokens[index]?.text === '=') return undefined;
    const end = brackets.get(index);
    if (end !== undefined) index = end;
  }
  return undefined;
}

const TYPE_WORDS = new Set(
  `auto bool char const double enum extern float int long register short signed static struct typeof
  __typeof__ union unsigned void volatile`.split(/\s+/),
);

/** Macros that declare. */
const DECLARERS =
  /^(?:DECLARE|DEFINE|BUILD_BUG|LIST_HEAD$|HLIST_HEAD$|CLASS$|FUSE_ARGS$|guard$|static_assert$)|_ON_STACK$/;

class BodyReader {
  readonly #tokens: readonly Token[];
  readonly #brackets: ReadonlyMap<number, number>;
  readonly #name: string;
  readonly #parts: Part[];

  constructor(tokens: readonly Token[], brackets: ReadonlyMap<number, number>, name: string, parts: Part[]) {
    this.#tokens = tokens;
    this.#brackets = brackets;
    this.#name = name;
    this.#parts = parts;
  }

  block(open: number, close: number): void {
    let index = open + 1;
    while (index < close) {
      const next = this.#statement(index, close);
      // Something that has no end inside its block is not understood: the rest of the block is left out.
      if (next <= index) return;
      index = next;
    }
  }

  /** @returns the index behind the statement. */
  #statement(index: number, limit: number): number {
    const word = this.#text(index);
    switch (word) {
      case '{': {
        const close = this.#brackets.get(index);
        if (close === undefined) return limit;
        this.block(index, close);
        return close + 1;
      }
      case 'if':
        return this.#ifStatement(index, limit);
      case 'while':
      case 'switch':
        return this.#headed(index, limit, word === 'while');
      case 'for':
        return this.#forStatement(index, limit);
      case 'do':
        return this.#doStatement(index, limit);
      case 'else':
        // Of an if in another branch of the preprocessor.
        return this.#statement(index + 1, limit);
      case 'case':
      case 'default':
        return this.#until(':', index, limit) + 1;
      default:
        return this.#simple(index, limit);
    }
  }

  #ifStatement(index: number, limit: number): number {
    const behind = this.#headed(index, limit, true);
    return this.#text(behind) === 'else' ? this.#statement(behind + 1, limit) : behind;
  }

  /** `word (…) statement` */
  #headed(index: number, limit: number, decides: boolean): number {
    const close = this.#brackets.get(index + 1);
    if (close === undefined) return limit;
    if (decides) this.#add('condition', index + 2, close);
    return this.#statement(close + 1, limit);
  }

  #forStatement(index: number, limit: number): number {
    const close = this.#brackets.get(index + 1);
    if (close === undefined) return limit;
    const first = this.#until(';', index + 2, close);
    const second = this.#until(';', first + 1, close);
    this.#add('condition', first + 1, second);
    return this.#statement(close + 1, limit);
  }

  #doStatement(index: number, limit: number): number {
    const behind = this.#statement(index + 1, limit);
    const close = this.#text(behind) === 'while' ? this.#brackets.get(behind + 1) : undefined;
    if (close === undefined) return limit;
    this.#add('condition', behind + 2, close);
    return close + 2;
  }

  #simple(index: number, limit: number): number {
    const [word, next] = [this.#text(index), this.#text(index + 1)];
    if (this.#tokens[index]?.kind === 'word' && next === ':') return index + 2;
    const close = next === '(' ? this.#brackets.get(index + 1) : undefined;
    if (close !== undefined && this.#isLoopMacro(index, close)) return this.#statement(close + 1, limit);
    const end = this.#until(';', index, limit);
    if (end >= limit) return limit;
    if (word === ';') return end + 1;
    if (['goto', 'break', 'continue'].includes(word)) this.#add('jump', index, end + 1);
    else if (word === 'return') {
      if (next === ';') this.#add('jump', index, end + 1);
      else this.#add('result', index + 1, end);
    } else if (this.#declares(index)) {
      if (word !== 'static') this.#add('initial', Math.min(end, this.#until('=', index, end) + 1), end);
    } else this.#add('expression', index, end + 1);
    return end + 1;
  }

  /** `list_for_each_entry(…) statement` */
  #isLoopMacro(index: number, close: number): boolean {
    const behind = this.#tokens[close + 1];
    // `return (type)value;`
    if (this.#text(index) === 'return') return false;
    return this.#tokens[index]?.kind === 'word' && (behind?.kind === 'word' || behind?.text === '{');
  }

  #declares(index: number): boolean {
    const word = this.#text(index);
    if (TYPE_WORDS.has(word) || DECLARERS.test(word)) return true;
    if (this.#tokens[index]?.kind !== 'word') return false;
    let next = index + 1;
    while (this.#text(next) === '*') next += 1;
    return this.#tokens[next]?.kind === 'word';
  }

  /** Index of the first such token that is in no bracket, else `limit`. */
  #until(text: string, from: number, limit: number): number {
    for (let index = from; index < limit; index += 1) {
      if (this.#text(index) === text) return index;
      index = this.#brackets.get(index) ?? index;
    }
    return limit;
  }

  #add(kind: Part['kind'], from: number, to: number): void {
    if (from < to) this.#parts.push({ kind, from, to, function: this.#name });
  }

  #text(index: number): string {
    return this.#tokens[index]?.text ?? '';
  }
}
