import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { open } from 'node:fs/promises';
import { PeakMemory } from './peak-memory.ts';
import { countBusy } from './processor-time.ts';

export interface WatchedProgram {
  /** The command line's first file. */
  readonly program: string;
  /** Command and options of `fusegate`. */
  readonly args: readonly string[];
  /** Gets all that it says. */
  readonly log: string;
  /** It is asked to end then. Milliseconds. */
  readonly limitMs: number;
}

export interface Watched {
  readonly peak: PeakMemory;
  /** From its start to its end. */
  readonly seconds: number;
  /** Processors of the machine that were at work on average, for it or for others. */
  readonly busy: number;
  /** `null`: it was ended by a signal. */
  readonly exitCode: number | null;
}

/** For a run to end in order once it was asked to. Milliseconds. */
const GRACE_MS = 30_000;

/** fusegate as a user starts it, in a process of its own. @throws the signal's reason. */
export async function watchProgram(
  { program, args, log, limitMs }: WatchedProgram,
  signal: AbortSignal,
): Promise<Watched> {
  const output = await open(log, 'w');
  try {
    const startedAt = performance.now();
    const busy = countBusy();
    // setpriv: the run ends in order when this process dies, however it dies.
    const child = spawn('setpriv', ['--pdeathsig', 'TERM', process.execPath, program, ...args], {
      stdio: ['ignore', output.fd, output.fd],
      // A group of its own: Ctrl-C on the terminal is passed on once, by us.
      detached: true,
    });
    const ended = once(child, 'exit') as Promise<[number | null]>;
    await once(child, 'spawn');
    using peak = new PeakMemory(child.pid ?? 0);
    let lastResort: NodeJS.Timeout | undefined;
    const end = (): void => {
      child.kill('SIGTERM');
      // What it leaves then, its own reaper removes.
      lastResort = setTimeout(() => void child.kill('SIGKILL'), GRACE_MS);
    };
    const limit = AbortSignal.any([signal, AbortSignal.timeout(limitMs)]);
    limit.addEventListener('abort', end, { once: true });
    if (limit.aborted) end();
    const [exitCode] = await ended;
    clearTimeout(lastResort);
    limit.removeEventListener('abort', end);
    signal.throwIfAborted();
    return { peak, seconds: (performance.now() - startedAt) / 1000, busy: busy(), exitCode };
  } finally {
    await output.close();
  }
}
