import { createHash } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { pattern } from '../../protocol/pattern.ts';
import type { BatchCall, CallResult } from '../../protocol/syscalls.ts';
import { batchCalls } from './batch.ts';
import { singleCalls } from './single-calls.ts';

const dir = await mkdtemp(join(tmpdir(), 'fusegate-batch-'));
test.after.always(() => rm(dir, { recursive: true, force: true }));

async function run(calls: readonly BatchCall[], digests = false): Promise<CallResult<unknown>[]> {
  const result = await batchCalls(singleCalls).batch({ calls, digests });
  if ('errno' in result) throw new Error(result.errno);
  return result.value;
}

test('calls of a batch use what earlier ones gave', async (t) => {
  const path = join(dir, 'f');
  const fd = { ref: { of: 0 } };
  const calls: BatchCall[] = [
    { call: 'open', args: { path, flags: 'O_RDWR|O_CREAT' } },
    { call: 'pwritev2', args: { fd, offset: 0, chunks: [{ make: { length: 100, seed: 7 } }] } },
    { call: 'pipe', args: {} },
    { call: 'splice', args: { fdIn: fd, offIn: 10, fdOut: { ref: { of: 2, part: 1 } }, length: 20 } },
    { call: 'read', args: { fd: { ref: { of: 2, part: 0 } }, count: 100 } },
    { call: 'close', args: { fd } },
  ];
  const results = await run(calls);
  t.deepEqual(results[4], { value: pattern(100, 7).subarray(10, 30) });
  t.deepEqual([results[1], results[3], results[5]], [{ value: 100 }, { value: 20 }, { value: 0 }]);
  const sha1 = createHash('sha1').update(pattern(100, 7).subarray(10, 30)).digest('hex');
  t.deepEqual((await run(calls, true))[4], { value: { length: 20, sha1 } });
});

test('a call that fails ends nothing, and what refers to it gets -1', async (t) => {
  const results = await run([
    { call: 'open', args: { path: join(dir, 'missing'), flags: 'O_RDONLY' } },
    { call: 'read', args: { fd: { ref: { of: 0 } }, count: 1 } },
    { call: 'getpid', args: {} },
  ]);
  t.deepEqual(results, [{ errno: 'ENOENT' }, { errno: 'EBADF' }, { value: process.pid }]);
});

test('a batch for one thread is made by the thread of the process itself', async (t) => {
  const call: BatchCall = { call: 'readlink', args: { path: '/proc/thread-self' } };
  const own = { value: `${process.pid}/task/${process.pid}` };
  const alone = await batchCalls(singleCalls).batch({ calls: [call, call], oneThread: true });
  t.deepEqual(alone, { value: [own, own] });
  t.notDeepEqual(await run([call]), [own], 'others are made on the pool');
});
