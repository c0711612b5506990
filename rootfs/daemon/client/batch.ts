import { pattern } from '../../protocol/pattern.ts';
import type {
  BatchCall,
  BatchData,
  BatchDigest,
  BatchReference,
  CallResult,
} from '../../protocol/syscalls.ts';
import { sha1 } from '../sys/digest.ts';
import { onThisThread } from '../sys/syscall.ts';
import type { CallTable, SingleCalls } from './call-table.ts';

type Call = (args: never) => Promise<CallResult<unknown>>;

/** Many calls in one request: under emulation the way to the host and back costs more than most calls do. */
export function batchCalls(single: SingleCalls): Pick<CallTable, 'batch'> {
  return {
    batch: async ({ calls, digests, oneThread }) => {
      const work = (): Promise<CallResult<unknown>[]> => inOrder(single, calls);
      const results = oneThread === true ? await onThisThread(work) : await work();
      return { value: digests === true ? results.map(digested) : results };
    },
  };
}

async function inOrder(single: SingleCalls, calls: readonly BatchCall[]): Promise<CallResult<unknown>[]> {
  const results: CallResult<unknown>[] = [];
  for (const { call, args } of calls) {
    const result = await (single[call as keyof SingleCalls] as Call)(resolved(args, results) as never);
    results.push(result);
  }
  return results;
}

/** The arguments with every reference replaced by its value, and data made. */
function resolved(args: BatchCall['args'], results: readonly CallResult<unknown>[]): unknown {
  const resolve = (value: unknown): unknown => {
    if (Array.isArray(value)) return value.map(resolve);
    if (typeof value !== 'object' || value === null || value instanceof Uint8Array) return value;
    if ('ref' in value) return valueOf(value.ref as BatchReference, results);
    if ('make' in value) return made(value.make as BatchData);
    return Object.fromEntries(Object.entries(value).map(([name, each]) => [name, resolve(each)]));
  };
  return resolve(args);
}

function valueOf({ of, part }: BatchReference, results: readonly CallResult<unknown>[]): unknown {
  const result = results[of];
  if (result === undefined || 'errno' in result) return -1;
  return part === undefined ? result.value : (result.value as readonly unknown[])[part];
}

function made({ length, seed }: BatchData): Uint8Array {
  return pattern(length, seed);
}

function digested(result: CallResult<unknown>): CallResult<unknown> {
  if ('errno' in result || !(result.value instanceof Uint8Array)) return result;
  const { value } = result;
  const digest: BatchDigest = {
    length: value.length,
    sha1: sha1().update(value).digest('hex'),
  };
  return { value: digest };
}
