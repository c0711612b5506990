import { closeSync, openSync } from 'node:fs';
import type { FdSource } from '../../protocol/server-calls.ts';
import { viewOf } from '../sys/bytes.ts';
import { flagBits } from '../sys/constants.ts';
import { adoptFd } from '../sys/adopt.ts';
import { cString } from '../sys/memory.ts';
import { syscall, syscallSync, valueOf } from '../sys/syscall.ts';

interface BorrowedFd extends AsyncDisposable {
  readonly number: number;
}

/** Makes the descriptor that a registration is to be tried with. @throws SystemError, or node's error of open. */
export async function takeFd(source: FdSource): Promise<BorrowedFd> {
  if ('path' in source) {
    return owned([openSync(source.path, flagBits(source.flags), source.mode ?? 0o644)]);
  }
  if ('special' in source) return owned(specialFds(source.special));
  if ('pid' in source) {
    const number = valueOf('pidfd_getfd', await adoptFd(source.pid, source.fd));
    // Closing may flush to a FUSE server, which may be this very process.
    const close = async (): Promise<void> => {
      await syscall('close', number);
    };
    return { number, [Symbol.asyncDispose]: close };
  }
  return { number: source.fd, [Symbol.asyncDispose]: () => Promise.resolve() };
}

function owned(fds: readonly number[]): BorrowedFd {
  const close = (): Promise<void> => {
    for (const fd of fds) closeSync(fd);
    return Promise.resolve();
  };
  return { number: fds[0] ?? -1, [Symbol.asyncDispose]: close };
}

const AF_UNIX = 1;
const SOCK_STREAM = 1;

function specialFds(kind: 'pipe' | 'socket' | 'eventfd' | 'memfd'): number[] {
  switch (kind) {
    case 'eventfd':
      return [valueOf('eventfd', syscallSync('eventfd2', 0, 0))];
    case 'memfd':
      return [valueOf('memfd', syscallSync('memfd_create', cString('backing'), 0))];
    case 'pipe': {
      const pair = new Uint8Array(8);
      valueOf('pipe', syscallSync('pipe2', pair, 0));
      return pairOf(pair);
    }
    case 'socket': {
      const pair = new Uint8Array(8);
      valueOf('socketpair', syscallSync('socketpair', AF_UNIX, SOCK_STREAM, 0, pair));
      return pairOf(pair);
    }
  }
}

function pairOf(bytes: Uint8Array): number[] {
  return [viewOf(bytes).getInt32(0, true), viewOf(bytes).getInt32(4, true)];
}
