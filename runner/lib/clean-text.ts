/**
 * Text from the guest, from a test and from a series is shown to people and to CI systems, and none of it is
 * ours. It must not move the cursor, hide itself or give orders to a workflow runner.
 */

/** CSI, OSC, DCS and two-character escape sequences (ECMA-48). */
const ESCAPES =
  /(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]|\x1b[\]PX^_][\s\S]*?(?:\x07|\x1b\\|\x9c|$)|\x1b[ -/]*[0-~]|\x1b/g;
/** C0 and C1 but for tab and newline. */
const CONTROLS = /[\x00-\x08\x0b-\x1f\x7f-\x9f]/g;
/** Characters that reorder or hide what stands beside them. */
const BIDI = /[\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]/g;

/** Removes escape sequences, control characters and text direction overrides; keeps tabs and newlines. */
export function cleanText(text: string): string {
  return text
    .replaceAll('\r\n', '\n')
    .replace(ESCAPES, '')
    .replaceAll('\r', '\n')
    .replace(CONTROLS, '')
    .replace(BIDI, '');
}

/** `cleanText`, on one line and at most `limit` characters. */
export function cleanLine(text: string, limit = 500): string {
  const line = cleanText(text).replaceAll(/\s+/g, ' ').trim();
  return line.length <= limit ? line : `${line.slice(0, limit - 1)}…`;
}

/**
 * Breaks what GitHub Actions would take for a workflow command: `::error::` at the start of a line (leading
 * blanks do not help) and the older `##[error]` anywhere in it.
 */
export function neutraliseCommands(text: string): string {
  return text.replace(/^(\s*)::/gm, '$1: :').replaceAll('##[', '## [');
}
