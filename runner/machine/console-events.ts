import { cleanLine, withoutPrefix } from './console-text.ts';

/** What a line of the console means for the machine; most lines mean nothing. */
export type ConsoleEvent =
  | { readonly kind: 'init-started' }
  | { readonly kind: 'sshd-up' }
  /** Our init says why it cannot go on, and ends the machine. */
  | { readonly kind: 'gave-up'; readonly reason: GiveUp; readonly title: string }
  | { readonly kind: 'no-fuse' }
  | { readonly kind: 'oops' | 'panic' | 'hang'; readonly title: string };

export type GiveUp = 'no root disk' | 'no network' | 'no tmpfs' | 'sshd ended' | 'sshd did not start';

const GIVE_UPS: readonly GiveUp[] = [
  'no root disk',
  'no network',
  'no tmpfs',
  'sshd ended',
  'sshd did not start',
];

/** Beginnings of the messages of a CPU exception that the kernel did not expect (arch/x86: die, show_fault_oops). */
const OOPS = [
  /^BUG: unable to handle\b/,
  /^BUG: kernel NULL pointer dereference\b/,
  /^Unable to handle kernel\b/,
  /^Oops(?::| -|\b.*\[#\d+\])/,
  /^kernel BUG at .+/,
  /^(?:general protection fault|stack segment|invalid opcode|divide error|int3|double fault|bounds)\b.*\[#\d+\]/,
  /^traps: PANIC: double fault\b/,
] as const;

const PANIC = /^Kernel panic - not syncing: *(.*)$/;

/** The detectors that say that a CPU or a task no longer gets on. */
const HANGS = [
  /^INFO: task .+ blocked(?: in I\/O wait)? for more than \d+ seconds/,
  /^(?:NMI )?watchdog: BUG: soft lockup\b/,
  /^(?:NMI )?watchdog: (?:CPU\d+: )?Watchdog detected hard LOCKUP\b/i,
  /^rcu: INFO: rcu_\w+ (?:self-)?detected (?:expedited )?stalls?\b/,
  /^INFO: rcu_\w+ (?:self-)?detected (?:expedited )?stalls?\b/,
] as const;

/** Pure: the meaning of one raw console line. */
export function consoleEvent(rawLine: string): ConsoleEvent | undefined {
  const line = withoutPrefix(cleanLine(rawLine)).trim();
  if (line.startsWith('fusegate: ')) return initEvent(line.slice('fusegate: '.length));
  const panic = PANIC.exec(line);
  if (panic !== null) return { kind: 'panic', title: panic[1] === '' ? 'no reason given' : (panic[1] ?? '') };
  if (OOPS.some((pattern) => pattern.test(line))) return { kind: 'oops', title: line };
  if (HANGS.some((pattern) => pattern.test(line))) return { kind: 'hang', title: line };
  return undefined;
}

function initEvent(words: string): ConsoleEvent | undefined {
  if (words === 'init started') return { kind: 'init-started' };
  if (words === 'sshd is up') return { kind: 'sshd-up' };
  if (words === 'no /dev/fuse') return { kind: 'no-fuse' };
  const reason = GIVE_UPS.find((known) => words.startsWith(known));
  return reason === undefined ? undefined : { kind: 'gave-up', reason, title: words };
}
