import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { projectRoot } from '#runner/lib/paths.ts';
import { CHAOS_LABEL } from './arena.ts';

/** How much of what a run writes is kept. Characters. */
const MAX_OUTPUT = 100_000;

/** The program itself, running: what users start. */
export interface Program {
  /** Standard output and standard error so far, its end. */
  readonly output: () => string;
  /** Null when a signal ended it. Never rejects. */
  readonly ended: Promise<number | null>;
  /** Aborted at its end. */
  readonly over: AbortSignal;
}

/** @param label by which all processes of it are found, those included that it labels itself. */
export function startProgram(args: readonly string[], label: string): Program {
  const child = spawn(process.execPath, [join(projectRoot, 'runner/cli/fusegate.js'), ...args], {
    cwd: projectRoot,
    env: { ...process.env, [CHAOS_LABEL]: label },
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true,
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8');
    stream.on('data', (text: string) => {
      output = (output + text).slice(-MAX_OUTPUT);
    });
  }
  const over = new AbortController();
  const ended = once(child, 'close')
    .then(([exitCode]) => exitCode as number | null)
    .finally(() => over.abort());
  return { output: () => output, ended, over: over.signal };
}

/** Pure: how far a run had come, from what it has written. */
export function phaseOf(output: string): Phase {
  if (/^suites {2,}\d+ tests?\b/m.test(output)) return 'end';
  if (/^suites {2,}suites /m.test(output)) return 'tests';
  if (/^build {2,}/m.test(output)) return 'first machine';
  return 'start';
}

export type Phase = 'start' | 'first machine' | 'tests' | 'end';
