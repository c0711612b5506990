import type { CommonCalls } from '../../protocol/calls.ts';
import { serveStdio } from '../rpc/server.ts';
import { Descriptors } from '../sys/descriptors.ts';
import { warmUp } from '../sys/ffi.ts';
import { batchCalls } from './batch.ts';
import type { CallTable } from './call-table.ts';
import { failingCalls } from './fail-nth.ts';
import { unmapAll } from './mapping-calls.ts';
import { singleCalls } from './single-calls.ts';

const calls: CallTable = { ...singleCalls, ...batchCalls(singleCalls), ...failingCalls(singleCalls) };

/**
 * A process that makes system calls and says what they gave. Each runs on a thread of the pool, so that one
 * that blocks, blocks nothing else; whoever started the process may kill it at any moment.
 */
export function runClient(): void {
  warmUp();
  const descriptors = new Descriptors();
  const renew = async (): Promise<CommonCalls['renew']['result']> => {
    return { clean: (await unmapAll()) && (await descriptors.restore()) };
  };
  serveStdio({ ...calls, renew, up: () => null }, () => process.exit(0));
}
