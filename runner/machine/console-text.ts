import { cleanText } from '#runner/lib/clean-text.ts';

/** Longest line that is kept; a guest can print without ever ending one. Characters. */
export const MAX_LINE = 4096;

/** A line of the guest made safe to show: no escape sequences, no control characters but the tab. */
export function cleanLine(line: string): string {
  const [text = ''] = line.slice(0, MAX_LINE).split(/\r+$/);
  return cleanText(text).replaceAll('\n', ' ');
}

/** Lines of a console, whole ones only; a serial console ends them with CR LF. */
export function splitLines(text: string): { readonly lines: readonly string[]; readonly rest: string } {
  const lines = text.split('\n');
  const rest = lines.pop() ?? '';
  return { lines, rest };
}

/** Without what printk puts before a message: level, time, and CPU or thread. */
export function withoutPrefix(line: string): string {
  return line.replace(/^(?:<\d+>)?(?:\[ *\d+\.\d+\] ?)?(?:\[ *[TC]\d+\] ?)?/, '');
}
