import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { Failure } from './failure.ts';
import { acquireLock } from './file-lock.ts';

async function lockPath(t: ExecutionContext): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'lock-test-'));
  t.teardown(async () => rm(dir, { recursive: true, force: true }));
  return join(dir, 'below', 'lock');
}

test('lock: the second waits for the first and hears who has it', async (t) => {
  const path = await lockPath(t);
  const order: string[] = [];
  const first = await acquireLock(path);
  const waited = Promise.withResolvers<number | undefined>();
  const second = acquireLock(path, { onWait: waited.resolve }).then((lock) => {
    order.push('second');
    return lock;
  });
  t.is(await waited.promise, process.pid);
  order.push('release');
  await first[Symbol.asyncDispose]();
  await (await second)[Symbol.asyncDispose]();
  t.deepEqual(order, ['release', 'second']);
});

test('lock: an abort ends the wait and takes nothing', async (t) => {
  const path = await lockPath(t);
  const first = await acquireLock(path);
  const controller = new AbortController();
  const reason = new Failure('E_INTERRUPTED', 'interrupted', 'Ctrl-C');
  const second = acquireLock(path, { signal: controller.signal, onWait: () => controller.abort(reason) });
  t.is(await t.throwsAsync(second), reason);
  await first[Symbol.asyncDispose]();
  const third = await acquireLock(path);
  await third[Symbol.asyncDispose]();
});

test('lock: kill -9 of the owner gives it back', async (t) => {
  const path = await lockPath(t);
  const module = new URL('file-lock.ts', import.meta.url).href;
  const script = `
    const { acquireLock } = await import(${JSON.stringify(module)});
    await acquireLock(${JSON.stringify(path)});
    process.stdout.write('locked');
    setInterval(() => {}, 1000);`;
  const owner = spawn(process.execPath, ['--input-type=module', '--eval', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await once(owner.stdout, 'data');
  const waiting = Promise.withResolvers<number | undefined>();
  const next = acquireLock(path, { onWait: waiting.resolve });
  t.is(await waiting.promise, owner.pid);
  owner.kill('SIGKILL');
  await (await next)[Symbol.asyncDispose]();
});
