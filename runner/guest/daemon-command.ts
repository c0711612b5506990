import type { Accelerator } from '#runner/machine/machine.ts';
import { shellQuote } from './ssh.ts';

/**
 * Options of Node where the guest is emulated. QEMU translates machine code when it is first run and throws the
 * translation away when the code changes, so that code which V8 makes on the way costs more than it saves; V8's
 * own interpreter is translated once. And the threads on which V8 would do such work have one processor with all
 * others. docs/decisions/0012 has the figures.
 */
const EMULATED = ['--jitless', '--single-threaded'] as const;

/** Pure: how the shell of the guest starts the daemon, which passes the options on to its children. */
export function daemonCommand(accelerator: Accelerator, path: string, ...args: readonly string[]): string {
  const options = accelerator === 'tcg' ? EMULATED : [];
  return ['node', ...options, shellQuote(path), ...args].join(' ');
}
