import { Buffer } from 'node:buffer';

/** A message with its transfer encoding undone. */
export interface Mail {
  /** Lower-case names; the first of each, unfolded, RFC 2047 words decoded. */
  readonly headers: ReadonlyMap<string, string>;
  /** Text parts only, byte for byte as latin1, lines ended by LF. */
  readonly body: string;
}

/**
 * Splits an mbox into messages. Input and output are latin1, so that every byte survives. A separator line is
 * `From`, a sender and a date that ends in a year, at the start or after an empty line; a file without one is
 * a single message.
 */
export function splitMbox(text: string): readonly string[] {
  const separator = /(?:^|(?<=\n\r?\n))From \S+.*\d{4}(?: [+-]\d{4})?\r?\n/gu;
  const starts = [...text.matchAll(separator)].map((match) => ({
    from: match.index,
    body: match.index + match[0].length,
  }));
  if (starts.length === 0) return text.trim() === '' ? [] : [text];
  return starts
    .map((start, index) => text.slice(start.body, starts[index + 1]?.from))
    .filter((message) => message.trim() !== '');
}

export function parseMail(message: string): Mail {
  const unix = message.replaceAll('\r\n', '\n');
  return parsePart(unix.replace(/^\n+/u, ''), 0);
}

function parsePart(text: string, depth: number): Mail {
  const end = text.startsWith('\n') ? 0 : text.indexOf('\n\n');
  const head = end === -1 ? text : text.slice(0, end);
  const raw = end === -1 ? '' : text.slice(end + (end === 0 ? 1 : 2));
  const headers = parseHeaders(head);
  const type = headers.get('content-type') ?? 'text/plain';
  const boundary = /^multipart\//iu.test(type) ? parameter(type, 'boundary') : undefined;
  if (boundary !== undefined && depth < 4) {
    return { headers, body: textOfParts(raw, boundary, depth) };
  }
  return { headers, body: decodeTransfer(raw, headers.get('content-transfer-encoding')) };
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
    .replace(/[ \t]+$/gmu, '')
    .replace(/=\n/gu, '')
    .replace(/=([0-9A-Fa-f]{2})/gu, (_, hex: string) => String.fromCharCode(parseInt(hex, 16)))
    .replaceAll('\r\n', '\n');
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
