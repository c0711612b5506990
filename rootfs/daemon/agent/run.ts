import { closeSync } from 'node:fs';
import type { AgentCalls, RunResult } from '../../protocol/calls.ts';
import { childProcess } from '../sys/child-process.ts';
import { makePipe, PipeReader } from '../sys/pipe.ts';

const DEFAULT_TIMEOUT_MS = 30_000;
/** Output beyond this is dropped: a program gone wild must not take the agent's memory. */
const MAX_OUTPUT_BYTES = 8 * 1024 * 1024;

/**
 * Runs a program to its end, in a process group of its own that is killed when the time is up. Its end is that of
 * its output, too: what it leaves running in the background is waited for as long as that can write.
 */
export async function runProgram(params: AgentCalls['run']['params']): Promise<RunResult> {
  const [program = '', ...args] = params.argv;
  const [stdout, stderr] = [new Output(), new Output()];
  const child = childProcess().spawn(program, args, {
    stdio: [params.stdin === undefined ? 'ignore' : 'pipe', stdout.writeEnd, stderr.writeEnd],
    detached: true,
    cwd: params.cwd ?? '/',
    env: { ...process.env, ...params.env },
  });
  for (const output of [stdout, stderr]) output.handedOver();
  child.stdin?.on('error', () => undefined);
  child.stdin?.end(params.stdin);
  let timedOut = false;
  const timer = setTimeout(() => {
    timedOut = true;
    if (child.pid !== undefined) killGroup(child.pid);
  }, params.timeoutMs ?? DEFAULT_TIMEOUT_MS);
  try {
    const exit = await new Promise<Pick<RunResult, 'code' | 'signal'>>((resolve, reject) => {
      child.on('error', reject);
      child.on('exit', (code, signal) => resolve({ code, signal }));
    });
    return { ...exit, stdout: await stdout.whole, stderr: await stderr.whole, timedOut };
  } finally {
    clearTimeout(timer);
  }
}

function killGroup(pid: number): void {
  try {
    process.kill(-pid, 'SIGKILL');
  } catch {
    // ESRCH: all of it has ended in this moment.
  }
}

/** What a program writes to one descriptor until nobody has it open any more. */
class Output {
  readonly writeEnd: number;
  readonly whole: Promise<Uint8Array>;

  constructor() {
    const { readEnd, writeEnd } = makePipe();
    this.writeEnd = writeEnd;
    const chunks: Uint8Array[] = [];
    let length = 0;
    this.whole = new Promise((resolve) => {
      new PipeReader(
        readEnd,
        (chunk) => {
          if (length < MAX_OUTPUT_BYTES) chunks.push(chunk);
          length += chunk.length;
        },
        () => {
          closeSync(readEnd);
          resolve(new Uint8Array(Buffer.concat(chunks)));
        },
      );
    });
  }

  /** The program has its own now, or there is none. */
  handedOver(): void {
    closeSync(this.writeEnd);
  }
}
