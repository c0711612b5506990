/** Escape sequences (CSI, OSC and the two-character ones), as a terminal would act on them. */
const ESCAPES =
  /\u009b[0-?]*[ -/]*[@-~]|\u001b(?:\[[0-?]*[ -/]*[@-~]|\][^\u0007\u001b]*(?:\u0007|\u001b\\)?|[@-_])/g;
/** Everything else that moves a cursor or reorders text, among it the bidirectional controls. */
const CONTROLS = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;

/** Longest line that is kept; a guest can print without ever ending one. Characters. */
export const MAX_LINE = 4096;

/** Text of the guest made safe to show: no escape sequences, no control characters but the tab. */
export function cleanLine(line: string): string {
  return line.slice(0, MAX_LINE).replace(ESCAPES, '').replace(CONTROLS, '');
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
