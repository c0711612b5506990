import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { Failure } from '#runner/lib/failure.ts';
import { throwIfInterrupted } from '../interruption.ts';

export interface LockOptions {
  readonly signal: AbortSignal;
  /** Called once when somebody else holds the lock, before waiting; `owner` as that process wrote it. */
  readonly onWait?: ((owner: string) => void) | undefined;
}

/**
 * An exclusive lock between processes that the kernel drops when its owner dies, however it dies: a child
 * `flock` holds it until its standard input closes, and a killed owner's pipes close. Nothing goes stale,
 * and there is nothing to clean. The child leads a session of its own, so that Ctrl-C does not reach it
 * before the owner has tidied up. The lock file stays: deleting it would let two waiters hold two inodes.
 *
 * @throws Failure E_INTERRUPTED when `signal` fires while waiting, E_TOOL_MISSING without util-linux.
 */
export async function lock(path: string, options: LockOptions): Promise<AsyncDisposable> {
  await mkdir(dirname(path), { recursive: true });
  const first = await hold(path, ['--nonblock'], options.signal);
  if (first !== undefined) return first;
  options.onWait?.((await readFile(path, 'utf8').catch(() => '')).trim());
  const second = await hold(path, [], options.signal);
  if (second !== undefined) return second;
  throw new Failure('E_LOCK_FAILED', 'infra', `the lock ${path} could not be taken`, {
    hint: 'is the cache on a file system that supports flock(2)?',
  });
}

async function hold(
  path: string,
  flags: readonly string[],
  signal: AbortSignal,
): Promise<AsyncDisposable | undefined> {
  throwIfInterrupted(signal);
  const holder = spawn('flock', [...flags, '--no-fork', path, 'sh', '-c', 'echo held; exec cat'], {
    stdio: ['pipe', 'pipe', 'ignore'],
    detached: true,
  });
  const exited = once(holder, 'exit');
  const held = new Promise<boolean>((resolve, reject) => {
    holder.once('error', (cause) => reject(missing(cause)));
    holder.stdout.once('data', () => resolve(true));
    holder.once('exit', () => resolve(false));
  });
  const abort = (): void => void holder.kill('SIGKILL');
  signal.addEventListener('abort', abort, { once: true });
  try {
    const got = await held;
    if (!got) {
      throwIfInterrupted(signal);
      return undefined;
    }
  } catch (error) {
    exited.catch(() => undefined);
    throw error;
  } finally {
    signal.removeEventListener('abort', abort);
  }
  // A lock must not keep the process alive, nor its pipe's errors end it.
  holder.stdin.on('error', () => undefined);
  await writeFile(path, `${process.pid}\n`);
  return {
    async [Symbol.asyncDispose]() {
      holder.stdin.destroy();
      await exited;
    },
  };
}

function missing(cause: Error): Failure {
  return new Failure('E_TOOL_MISSING', 'infra', 'flock (util-linux) is not installed', {
    hint: 'run `make doctor`: it names what is missing and the command that installs it',
    cause,
  });
}
