import { Buffer } from 'node:buffer';

/** A message with its transfer encoding undone. */
export interface Mail {
  /** Lower-case names; the first of each, unfolded, RFC 2047 words decoded. */
  readonly headers: ReadonlyMap<string, string>;
  /** Text parts only, byte for byte as latin1, lines ended by LF. */
  readonly body: string;
}

/**
 * Splits an mbox into messages. Input and output are latin1, so that every byte survives. A message begins below a
 * line that git takes for a separator; a text without one is a single message.
 */
export function splitMbox(text: string): readonly string[] {
  const messages: string[] = [];
  let start = 0;
  for (let at = text.startsWith('From ') ? 0 : nextFrom(text, 0); at !== -1; at = nextFrom(text, at)) {
    const end = text.indexOf('\n', at);
    if (end === -1 || !isSeparator(text.slice(at, end))) continue;
    messages.push(text.slice(start, at));
    start = end + 1;
  }
  messages.push(text.slice(start));
  return messages.filter((message) => message.trim() !== '');
}

/** Where the next line begins with `From `; -1 for none. */
function nextFrom(text: string, after: number): number {
  const found = text.indexOf('\nFrom ', after);
  return found === -1 ? -1 : found + 1;
}

/**
 * Whether a line that begins with `From ` is a separator and no sentence: what ends it is a time with seconds and a
 * year, as git-mailsplit(1) wants it. An empty line need not stand above.
 */
function isSeparator(line: string): boolean {
  return /\d:\d\d:\d\d (?:[A-Z]{3,5} )?\d{4}(?: [+-]\d{4})?\s*$/u.test(line.slice(-60));
}

/** Whether a text begins as an mbox or as a mail does, and not with a description of the patch below it. */
export function beginsAsMail(text: string): boolean {
  const start = text.trimStart();
  const [line = ''] = start.split('\n', 1);
  if (line.startsWith('From ')) return isSeparator(line);
  const { headers } = splitHead(start.replaceAll('\r\n', '\n'));
  return headers.has('subject') || headers.has('from');
}

/** @param ends `kept`: lines that end in CRLF keep it, because no mail program has had the text. */
export function parseMail(message: string, ends: 'undone' | 'kept' = 'undone'): Mail {
  const unix = ends === 'kept' ? message : message.replaceAll('\r\n', '\n');
  return parsePart(unix.replace(/^\n+/u, ''), 0);
}

function parsePart(text: string, depth: number): Mail {
  const { headers, below } = splitHead(text);
  const type = headers.get('content-type') ?? 'text/plain';
  const boundary = /^multipart\//iu.test(type) ? parameter(type, 'boundary') : undefined;
  if (boundary !== undefined && depth < 4) {
    return { headers, body: textOfParts(below, boundary, depth) };
  }
  return { headers, body: decodeTransfer(below, headers.get('content-transfer-encoding')) };
}

/** Headers end at an empty line, or at the first line that can be none: the text below somebody's note is no header. */
function splitHead(text: string): Pick<Mail, 'headers'> & { readonly below: string } {
  let at = 0;
  while (at < text.length) {
    const found = text.indexOf('\n', at);
    const end = found === -1 ? text.length : found;
    if (end === at) return { headers: parseHeaders(text.slice(0, at)), below: text.slice(at + 1) };
    const line = text.slice(at, Math.min(end, at + 200));
    const goesOn = at > 0 && /^[ \t]/u.test(line);
    if (!goesOn && !/^>?From |^[!-9;-~]+:/u.test(line)) break;
    at = end + 1;
  }
  return { headers: parseHeaders(text.slice(0, at)), below: text.slice(at) };
}

function textOfParts(raw: string, boundary: string, depth: number): string {
  return `\n${raw}`
    .split(`\n--${boundary}`)
    .slice(1)
    .filter((part) => !part.startsWith('--'))
    .map((part) => parsePart(part.replace(/^[ \t]*\n/u, ''), depth + 1))
    .filter((part) =>
      /^(?:text|multipart)\/(?!html)/iu.test(part.headers.get('content-type') ?? 'text/plain'),
    )
    .map((part) => (part.body.endsWith('\n') ? part.body : `${part.body}\n`))
    .join('');
}

function parseHeaders(head: string): ReadonlyMap<string, string> {
  const headers = new Map<string, string>();
  for (const line of head.replace(/\n[ \t]+/gu, ' ').split('\n')) {
    const colon = line.indexOf(':');
    if (colon <= 0 || /\s/u.test(line.slice(0, colon))) continue;
    const name = line.slice(0, colon).toLowerCase();
    if (!headers.has(name)) headers.set(name, decodeWords(line.slice(colon + 1).trim()));
  }
  return headers;
}

function parameter(header: string, name: string): string | undefined {
  const match = new RegExp(`;\\s*${name}\\s*=\\s*(?:"([^"]*)"|([^;\\s]+))`, 'iu').exec(header);
  return match?.[1] ?? match?.[2];
}

function decodeTransfer(raw: string, encoding: string | undefined): string {
  switch (encoding?.trim().toLowerCase()) {
    case 'base64':
      return Buffer.from(raw, 'base64').toString('latin1').replaceAll('\r\n', '\n');
    case 'quoted-printable':
      return decodeQuotedPrintable(raw);
    default:
      return raw;
  }
}

function decodeQuotedPrintable(text: string): string {
  return text
    .split('\n')
    .map(withoutTrailingBlanks)
    .join('\n')
    .replace(/=\n/gu, '')
    .replace(/=([0-9A-Fa-f]{2})/gu, (_, hex: string) => String.fromCharCode(parseInt(hex, 16)))
    .replaceAll('\r\n', '\n');
}

/** In time that grows with the line alone: blanks are what a hostile mail has many of. */
function withoutTrailingBlanks(line: string): string {
  let end = line.length;
  while (line[end - 1] === ' ' || line[end - 1] === '\t') end -= 1;
  return line.slice(0, end);
}

/** RFC 2047 encoded words; what is left is taken as UTF-8 where it is, as git does. */
function decodeWords(value: string): string {
  const joined = value.replace(/(=\?[^?\s]+\?[bq]\?[^?]*\?=)\s+(?==\?[^?\s]+\?[bq]\?)/giu, '$1');
  return utf8OrLatin1(joined).replace(
    /=\?([^?\s*]+)(?:\*[^?\s]*)?\?([bq])\?([^?]*)\?=/giu,
    (word, charset: string, kind: string, text: string) => {
      const bytes =
        kind.toLowerCase() === 'b'
          ? Buffer.from(text, 'base64')
          : Buffer.from(decodeQuotedPrintable(text.replaceAll('_', '=20')), 'latin1');
      return decodeCharset(bytes, charset) ?? word;
    },
  );
}

function decodeCharset(bytes: Uint8Array, charset: string): string | undefined {
  try {
    return new TextDecoder(charset).decode(bytes);
  } catch {
    // A charset nobody knows: RangeError from the constructor.
    return undefined;
  }
}

/** Text whose bytes came in as latin1. */
export function utf8OrLatin1(latin1: string): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(Buffer.from(latin1, 'latin1'));
  } catch {
    return latin1;
  }
}
