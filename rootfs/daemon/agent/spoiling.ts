import type { BatchCall, SyscallName } from '../../protocol/syscalls.ts';

/** Calls whose effect is neither a descriptor nor a mapping: they stay until the process ends. */
export const CHANGES_THE_PROCESS: ReadonlySet<string> = new Set<SyscallName>([
  'setCredentials',
  'setrlimit',
  'signal',
  'chdir',
  'umask',
]);

/** By itself, as one of a batch, or as the call whose allocations fail. */
export function changesTheProcess(call: SyscallName, args: unknown): boolean {
  const { calls, call: inner } = (args ?? {}) as { calls?: readonly BatchCall[]; call?: string };
  const all: readonly string[] = [call, ...(calls ?? []).map((each) => each.call), inner ?? ''];
  return all.some((name) => CHANGES_THE_PROCESS.has(name));
}
