import { warmUp } from '../sys/ffi.ts';
import { serveStdio } from '../rpc/server.ts';
import type { CallTable } from './call-table.ts';
import { fileCalls } from './file-calls.ts';
import { mappingCalls } from './mapping-calls.ts';
import { processCalls } from './process-calls.ts';
import { transferCalls } from './transfer-calls.ts';
import { treeCalls } from './tree-calls.ts';

const calls: CallTable = { ...fileCalls, ...treeCalls, ...mappingCalls, ...transferCalls, ...processCalls };

/**
 * A disposable process that makes system calls and says what they gave. Each runs on a thread of the pool, so
 * that one that blocks, blocks nothing else; whoever started the process may kill it at any moment.
 */
export function runClient(): void {
  setImmediate(warmUp);
  serveStdio(calls, () => process.exit(0));
}
