import { spawn } from 'node:child_process';
import type { AgentCalls, RunResult } from '../../protocol/calls.ts';

const DEFAULT_TIMEOUT_MS = 30_000;
/** Output beyond this is dropped: a program gone wild must not take the agent's memory. */
const MAX_OUTPUT_BYTES = 8 * 1024 * 1024;

/** Runs a program to its end, in a process group of its own that is killed when the time is up. */
export function runProgram(params: AgentCalls['run']['params']): Promise<RunResult> {
  const [program = '', ...args] = params.argv;
  const child = spawn(program, args, {
    stdio: ['pipe', 'pipe', 'pipe'],
    detached: true,
    cwd: params.cwd ?? '/',
    env: { ...process.env, ...params.env },
  });
  const stdout = collect(child.stdout);
  const stderr = collect(child.stderr);
  child.stdin.on('error', () => undefined);
  child.stdin.end(params.stdin);
  return new Promise((resolve, reject) => {
    let timedOut = false;
    const timer = setTimeout(() => {
      timedOut = true;
      if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL');
    }, params.timeoutMs ?? DEFAULT_TIMEOUT_MS);
    child.on('error', (error) => {
      clearTimeout(timer);
      reject(error);
    });
    child.on('close', (code, signal) => {
      clearTimeout(timer);
      resolve({ code, signal, stdout: stdout(), stderr: stderr(), timedOut });
    });
  });
}

function collect(stream: NodeJS.ReadableStream): () => Uint8Array {
  const chunks: Buffer[] = [];
  let length = 0;
  stream.on('data', (chunk: Buffer) => {
    if (length < MAX_OUTPUT_BYTES) chunks.push(chunk);
    length += chunk.length;
  });
  return () => new Uint8Array(Buffer.concat(chunks));
}
