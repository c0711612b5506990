import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { Failure } from '#runner/lib/failure.ts';
import { lock } from './lock.ts';

const dir = await mkdtemp(join(tmpdir(), 'fusegate-lock-'));
test.after.always(() => rm(dir, { recursive: true, force: true }));
const module = new URL('./lock.ts', import.meta.url).href;

/** Another process that takes the lock, says so, and holds it until its standard input ends or it is killed. */
async function holderOf(path: string) {
  const code = `
    const { lock } = await import(${JSON.stringify(module)});
    const held = await lock(${JSON.stringify(path)}, { signal: new AbortController().signal });
    process.stdout.write('held\\n');
    process.stdin.resume().on('end', async () => { await held[Symbol.asyncDispose](); });
  `;
  const child = spawn(process.execPath, ['--input-type=module', '--eval', code], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  await once(child.stdout, 'data');
  return child;
}

test('lock: a second process waits, is told who holds it, and gets it after a release', async (t) => {
  const path = join(dir, 'released');
  const holder = await holderOf(path);
  const owner = Promise.withResolvers<string>();
  const second = lock(path, { signal: new AbortController().signal, onWait: owner.resolve });
  t.is(await owner.promise, String(holder.pid));
  let taken = false;
  void second.then(() => (taken = true));
  await new Promise(setImmediate);
  t.false(taken);
  holder.stdin.end();
  await using _held = await second;
  t.is((await readFile(path, 'utf8')).trim(), String(process.pid));
  if (holder.exitCode === null) await once(holder, 'exit');
});

test('lock: kill -9 of the holder frees it', async (t) => {
  const path = join(dir, 'killed');
  const holder = await holderOf(path);
  const waiting = Promise.withResolvers<string>();
  const second = lock(path, { signal: new AbortController().signal, onWait: waiting.resolve });
  await waiting.promise;
  holder.kill('SIGKILL');
  await using held = await second;
  t.truthy(held);
});

test('lock: in one process, too, one holder at a time', async (t) => {
  const path = join(dir, 'same');
  const { signal } = new AbortController();
  let inside = 0;
  let most = 0;
  await Promise.all(
    Array.from({ length: 4 }, async () => {
      await using _held = await lock(path, { signal });
      inside += 1;
      most = Math.max(most, inside);
      await new Promise(setImmediate);
      inside -= 1;
    }),
  );
  t.is(most, 1);
});

test('lock: an interruption ends the wait and takes nothing', async (t) => {
  const path = join(dir, 'aborted');
  const holder = await holderOf(path);
  const controller = new AbortController();
  const failure = await t.throwsAsync(
    lock(path, { signal: controller.signal, onWait: () => controller.abort() }),
    { instanceOf: Failure },
  );
  t.is(failure.code, 'E_INTERRUPTED');
  t.is(failure.blame, 'interrupted');
  holder.stdin.end();
  await once(holder, 'exit');
  await using held = await lock(path, { signal: new AbortController().signal });
  t.truthy(held);
});
