import { Buffer } from 'node:buffer';

export interface Hunk {
  /** The `@@ -a,b +c,d @@ context` line. */
  readonly header: string;
  /** First line in the old file, from 1. */
  readonly oldStart: number;
  /** Line of the header within the diff, from 1. */
  readonly line: number;
}

export interface FileDiff {
  /** Paths as written, both sides, before stripping; without /dev/null. */
  readonly names: readonly string[];
  readonly hunks: readonly Hunk[];
  /** Modes that a header line sets, such as `100644`. */
  readonly modes: readonly string[];
}

/** Why a diff cannot be read, with the line within it. */
export class DiffError extends Error {
  override readonly name = 'DiffError';
}

const fileStart = /^diff --git |^--- .*\n\+\+\+ /mu;

/** Where the diff begins in a mail body or patch file: at its first file header. */
export function diffOffset(text: string): number | undefined {
  return fileStart.exec(text)?.index;
}

/**
 * Reads a git or plain unified diff (latin1). Hunks are read by their counts, so that a removed line `-- x`
 * is never taken for a file header and a mail signature ends the last hunk.
 *
 * @throws DiffError for a hunk that is cut short or has a line that is neither context, + nor -.
 */
export function parseDiff(text: string): readonly FileDiff[] {
  const lines = text.split('\n');
  const files: OpenFile[] = [];
  let at = 0;
  while (at < lines.length) {
    const line = lines[at] ?? '';
    const current = files.at(-1);
    if (line.startsWith('diff --git ')) {
      files.push(openFile(gitHeaderNames(line)));
      at += 1;
    } else if (isNamePair(lines, at)) {
      const file = current === undefined || current.body ? openFile([]) : current;
      if (file !== current) files.push(file);
      readNamePair(lines, at, file);
      at += 2;
    } else if (current?.body === true && isHunkHeader(line)) {
      current.hunks.push({ header: line, oldStart: hunkCounts(line, at).oldStart, line: at + 1 });
      at = skipHunk(lines, at);
    } else {
      if (current?.body === false) readExtendedHeader(line, current);
      at += 1;
    }
  }
  return files.map(({ names, hunks, modes }) => ({ names: [...names], hunks, modes }));
}

interface OpenFile {
  readonly names: Set<string>;
  readonly hunks: Hunk[];
  readonly modes: string[];
  /** The `---` and `+++` lines were seen. */
  body: boolean;
}

function openFile(names: readonly string[]): OpenFile {
  return { names: new Set(names), hunks: [], modes: [], body: false };
}

function isNamePair(lines: readonly string[], at: number): boolean {
  return lines[at]?.startsWith('--- ') === true && lines[at + 1]?.startsWith('+++ ') === true;
}

function isHunkHeader(line: string): boolean {
  return /^@@ -\d/u.test(line);
}

function readNamePair(lines: readonly string[], at: number, file: OpenFile): void {
  file.body = true;
  for (const side of lines.slice(at, at + 2)) {
    const name = headerName(side.slice(4));
    if (name !== undefined) file.names.add(name);
  }
}

/** The changes alone: no blob names, no text between files, no mail signature. */
export function canonicalDiff(text: string): string {
  const kept: string[] = [];
  const lines = text.split('\n');
  let at = 0;
  let inFile = false;
  while (at < lines.length) {
    const line = lines[at] ?? '';
    if (inFile && isHunkHeader(line)) {
      const end = skipHunk(lines, at);
      // What follows the second @@ is a hint for people and depends on who made the diff.
      kept.push(line.replace(/^(@@[^@]*@@).*$/u, '$1'), ...lines.slice(at + 1, end));
      at = end;
      continue;
    }
    if (line.startsWith('diff --git ')) inFile = true;
    if (isNamePair(lines, at)) {
      inFile = true;
      kept.push(line.replace(/\t.*$/u, ''), (lines[at + 1] ?? '').replace(/\t.*$/u, ''));
      at += 2;
      continue;
    }
    if (/^(?:new file|deleted file|old|new) mode |^(?:rename|copy) (?:from|to) |^diff --git /u.test(line)) {
      kept.push(line);
    } else if (/^GIT binary patch|^(?:literal|delta) \d|^[A-Za-z][!-~]{5,}$/u.test(line) && inFile) {
      kept.push(line);
    }
    at += 1;
  }
  return kept.join('\n');
}

function readExtendedHeader(line: string, file: OpenFile): void {
  const mode = /^(?:new file|deleted file|old|new) mode (\d+)$/u.exec(line)?.[1];
  if (mode !== undefined) file.modes.push(mode);
  // These have no a/ or b/; add a component so that stripping treats all names alike.
  const renamed = /^(?:rename|copy) (from|to) (.+)$/u.exec(line)?.[2];
  if (renamed !== undefined) file.names.add(`x/${unquote(renamed)}`);
}

function hunkCounts(header: string, at: number): { oldStart: number; old: number; new: number } {
  const match = /^@@ -(\d+)(?:,(\d+))? \+\d+(?:,(\d+))? @@/u.exec(header);
  if (match === null) throw new DiffError(`line ${at + 1}: a hunk header that is none`);
  return { oldStart: Number(match[1]), old: Number(match[2] ?? 1), new: Number(match[3] ?? 1) };
}

/** Index of the first line after the hunk whose header is at `start`. */
function skipHunk(lines: readonly string[], start: number): number {
  const left = hunkCounts(lines[start] ?? '', start);
  let at = start + 1;
  while (left.old > 0 || left.new > 0) {
    const line = lines[at];
    if (line === undefined) throw new DiffError(`line ${start + 1}: the hunk is cut short`);
    const kind = hunkLineKind(line);
    if (kind === undefined) throw new DiffError(`line ${at + 1}: not a line of a hunk`);
    if (kind === ' ' || kind === '-') left.old -= 1;
    if (kind === ' ' || kind === '+') left.new -= 1;
    if (left.old < 0 || left.new < 0) {
      throw new DiffError(`line ${at + 1}: the hunk is longer than it says`);
    }
    at += 1;
  }
  return lines[at]?.startsWith('\\ ') === true ? at + 1 : at;
}

function hunkLineKind(line: string): ' ' | '+' | '-' | '\\' | undefined {
  // Mail programs drop the blank of an empty context line; git takes it all the same.
  if (line === '' || line === '\r') return ' ';
  const kind = line[0];
  return kind === ' ' || kind === '+' || kind === '-' || kind === '\\' ? kind : undefined;
}

/** `diff --git a/x b/x`: both names, when they can be told apart (equal, or quoted). */
function gitHeaderNames(line: string): readonly string[] {
  const rest = line.slice('diff --git '.length).trimEnd();
  const quoted = /^("(?:[^"\\]|\\.)*"|\S+) ("(?:[^"\\]|\\.)*"|\S+)$/u.exec(rest);
  if (quoted?.[1] !== undefined && quoted[2] !== undefined) return [unquote(quoted[1]), unquote(quoted[2])];
  const middle = (rest.length - 1) / 2;
  return Number.isInteger(middle) && rest[middle] === ' '
    ? [rest.slice(0, middle), rest.slice(middle + 1)]
    : [];
}

/** The name in a `---` or `+++` line: up to a tab, quoted the C way when it has odd characters. */
function headerName(text: string): string | undefined {
  const name = unquote((text.startsWith('"') ? text : (text.split('\t')[0] ?? '')).trimEnd());
  return name === '/dev/null' ? undefined : name;
}

function unquote(name: string): string {
  if (!name.startsWith('"')) return name;
  const plain = name.slice(1, name.lastIndexOf('"'));
  const bytes = plain.replace(/\\([0-7]{3}|.)/gu, (_, code: string) =>
    /^[0-7]{3}$/u.test(code)
      ? String.fromCharCode(parseInt(code, 8) & 0xff)
      : ({ n: '\n', t: '\t', r: '\r' }[code] ?? code),
  );
  return Buffer.from(bytes, 'latin1').toString('latin1');
}
