import type { SingleCalls } from './call-table.ts';
import { eventCalls } from './event-calls.ts';
import { fileCalls } from './file-calls.ts';
import { mappingCalls } from './mapping-calls.ts';
import { processCalls } from './process-calls.ts';
import { transferCalls } from './transfer-calls.ts';
import { treeCalls } from './tree-calls.ts';
import { uringCalls } from './uring-calls.ts';

/** Every call of a client but those that make others. */
export const singleCalls: SingleCalls = {
  ...fileCalls,
  ...treeCalls,
  ...mappingCalls,
  ...transferCalls,
  ...uringCalls,
  ...processCalls,
  ...eventCalls,
};
