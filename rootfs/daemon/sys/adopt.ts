import type { CallResult } from '../../protocol/syscalls.ts';
import { syscall } from './syscall.ts';

/** A descriptor for the same open file description as another process's descriptor (pidfd_getfd). */
export async function adoptFd(pid: number, fd: number): Promise<CallResult<number>> {
  const pidfd = await syscall('pidfd_open', pid, 0);
  if ('errno' in pidfd) return pidfd;
  try {
    return await syscall('pidfd_getfd', pidfd.value, fd, 0);
  } finally {
    await syscall('close', pidfd.value);
  }
}
