import { readSync, writeSync } from 'node:fs';
import { callSync } from '../sys/ffi.ts';
import { onThisThread } from '../sys/syscall.ts';
import type { CallTable, SingleCalls } from './call-table.ts';

/** `failNth` for the other calls of a client. */
export function failingCalls(calls: SingleCalls): Pick<CallTable, 'failNth'> {
  return {
    failNth: async ({ counter, nth, call, args }) => {
      if (!Object.hasOwn(calls, call)) return { errno: 'EINVAL' };
      const made = calls[call as keyof typeof calls] as (args: object) => ReturnType<CallTable['getpid']>;
      return await onThisThread(async () => {
        const word = Buffer.from(`${nth}\0`);
        // Through the same door as the call itself, so that nothing has to be found or made in between.
        callSync('write', [counter, word, word.length]);
        const result = await made(args);
        const injected = takeBack(counter);
        return 'errno' in result
          ? { value: { errno: result.errno, value: null, injected } }
          : { value: { errno: 'ok', value: result.value, injected } };
      });
    },
  };
}

/** @returns whether the allocation was reached; from here on none fails. */
function takeBack(counter: number): boolean {
  const bytes = Buffer.alloc(16);
  const length = readSync(counter, bytes, 0, bytes.length, 0);
  writeSync(counter, '0');
  return Number.parseInt(bytes.toString('latin1', 0, length), 10) === 0;
}
