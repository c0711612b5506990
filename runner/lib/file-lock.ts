import { spawn, type ChildProcessByStdio } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { Readable, Writable } from 'node:stream';
import { Failure } from './failure.ts';

export interface LockOptions {
  readonly signal?: AbortSignal | undefined;
  /** Called once if somebody else holds the lock; `owner` is that process's id, if it has said so. */
  readonly onWait?: ((owner: number | undefined) => void) | undefined;
}

/**
 * Waits for and takes an exclusive lock on `path`, a file that is created if need be and never removed.
 *
 * The lock is flock(2), held by a flock(1) child that lives as long as our end of its standard input is open.
 * So the kernel itself gives the lock back whatever ends us, `kill -9` included: there is no stale lock to
 * recognise and none to steal. Disposing releases it.
 *
 * @throws Failure E_LOCK (infra) when the lock cannot be taken, E_INTERRUPTED or the signal's own Failure.
 */
export async function acquireLock(path: string, options: LockOptions = {}): Promise<AsyncDisposable> {
  await mkdir(dirname(path), { recursive: true });
  const atOnce = await holdLock(path, ['--nonblock'], options.signal);
  if (atOnce !== undefined) return atOnce;
  options.onWait?.(await ownerOf(path));
  const later = await holdLock(path, [], options.signal);
  if (later === undefined) throw new Failure('E_LOCK', 'infra', `the lock ${path} could not be taken`);
  return later;
}

type Holder = ChildProcessByStdio<Writable, Readable, null>;

/** `undefined`: somebody else holds it (only with --nonblock). */
async function holdLock(
  path: string,
  how: readonly string[],
  signal: AbortSignal | undefined,
): Promise<AsyncDisposable | undefined> {
  signal?.throwIfAborted();
  // `cat` keeps the lock until end of file on its input; the byte it repeats says that the lock is held.
  const holder = spawn('flock', ['--conflict-exit-code', '75', ...how, path, 'cat'], {
    stdio: ['pipe', 'pipe', 'ignore'],
    detached: true,
    env: { PATH: process.env['PATH'] ?? '/usr/bin:/bin' },
  });
  holder.stdin.on('error', () => undefined);
  holder.stdin.write('.');
  const abort = (): void => {
    holder.stdin.destroy();
    holder.kill('SIGKILL');
  };
  signal?.addEventListener('abort', abort, { once: true });
  try {
    const exitCode = await takenOrEnded(holder, path);
    signal?.throwIfAborted();
    if (exitCode === 75) return undefined;
    if (exitCode !== 'taken') {
      throw new Failure('E_LOCK', 'infra', `flock ${path} exited ${String(exitCode)}`, {
        hint: 'is the cache directory writable, and does its filesystem support flock(2)?',
      });
    }
  } finally {
    signal?.removeEventListener('abort', abort);
  }
  await writeFile(path, `${process.pid}\n`).catch(() => undefined);
  return {
    async [Symbol.asyncDispose]() {
      if (holder.exitCode !== null || holder.signalCode !== null) return;
      holder.stdin.end();
      await once(holder, 'exit');
    },
  };
}

async function takenOrEnded(holder: Holder, path: string): Promise<'taken' | number | null> {
  return new Promise((resolve, reject) => {
    holder.stdout.once('data', () => resolve('taken'));
    holder.once('exit', (code) => resolve(code));
    holder.once('error', (cause) =>
      reject(
        new Failure('E_TOOL_MISSING', 'infra', `flock is needed to lock ${path}`, {
          hint: 'install util-linux',
          cause,
        }),
      ),
    );
  });
}

async function ownerOf(path: string): Promise<number | undefined> {
  const pid = Number((await readFile(path, 'utf8').catch(() => '')).trim());
  return Number.isSafeInteger(pid) && pid > 0 ? pid : undefined;
}
