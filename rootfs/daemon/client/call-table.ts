import type { CallResult, SyscallName, Syscalls } from '../../protocol/syscalls.ts';

/** Implementations of some of the calls, by name. */
export type CallTable<K extends SyscallName = SyscallName> = {
  readonly [N in K]: (args: Syscalls[N]['args']) => Promise<CallResult<Syscalls[N]['value']>>;
};

export const AT_FDCWD = -100;

/** Keeps the errno, changes the value. */
export function mapValue<T, U>(result: CallResult<T>, change: (value: T) => U): CallResult<U> {
  return 'errno' in result ? result : { value: change(result.value) };
}

/** The calls that are one system call each, or a few; the others make these. */
export type SingleCalls = Omit<CallTable, 'batch' | 'failNth'>;
