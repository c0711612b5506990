import { writeSync } from 'node:fs';
import type { Event, ObservedRun } from 'ava/internal';
import type { AvaEvent } from './ava-event.ts';
import { AVA_EVENTS_FD_ENV } from './ava-event.ts';

/**
 * `observeRun` of ava.config.js. It runs in AVA's main process, which neither awaits it nor survives its
 * errors, and which ends with process.exit: every event is written synchronously, and nothing is thrown.
 * The only file that knows AVA's events; an experiment of AVA 8, held by observe.test.ts.
 */
export async function observeRun(run: ObservedRun): Promise<void> {
  const fd = Number(process.env[AVA_EVENTS_FD_ENV] ?? Number.NaN);
  if (!Number.isInteger(fd)) return;
  const begun = new Set<string>();
  for await (const event of run.events) {
    for (const translated of [firstSignOf(fileOf(event), begun), translate(event)]) {
      if (translated !== undefined) write(fd, translated);
    }
  }
}

/** AVA itself says only of threads that they start. */
function firstSignOf(file: string, begun: Set<string>): AvaEvent | undefined {
  if (file === '' || begun.has(file)) return undefined;
  begun.add(file);
  return { type: 'file-started', file };
}

/** Events that AVA emits and its types leave out (AVA 8.0.1, lib/run-status.js, lib/runner.js). */
type ObservedEvent =
  | Event
  | {
      readonly type: 'hook-failed' | 'uncaught-exception' | 'unhandled-rejection' | 'internal-error';
      readonly title?: string;
      readonly err: SerializedError;
      readonly testFile?: string;
    }
  | { readonly type: 'process-exit'; readonly testFile: string; readonly stack?: string }
  | { readonly type: 'missing-ava-import' | 'no-tests'; readonly testFile: string }
  | { readonly type: 'interrupt' };

interface SerializedError {
  readonly type?: string;
  readonly name?: string;
  readonly message?: string;
  readonly stack?: string;
  readonly source?: { readonly file: string; readonly line: number } | null | undefined;
  readonly formattedDetails?: unknown;
  readonly formattedError?: string;
}

function translate(event: ObservedEvent): AvaEvent | undefined {
  switch (event.type) {
    case 'selected-test':
      return {
        type: 'selected',
        file: event.testFile,
        title: event.title,
        declared: event.todo ? 'todo' : event.skip ? 'skip' : 'run',
      };
    case 'test-passed':
      return { type: 'passed', file: event.testFile, title: event.title, durationMs: event.duration };
    case 'test-failed':
      return {
        type: 'failed',
        file: event.testFile,
        title: event.title,
        durationMs: event.duration,
        message: describe(event.err),
      };
    case 'timeout':
      return { type: 'timeout', periodMs: event.period };
    case 'end':
      return { type: 'ended', interrupted: false };
    case 'interrupt':
      return { type: 'ended', interrupted: true };
    default:
      return translateTrouble(event);
  }
}

function translateTrouble(event: ObservedEvent): AvaEvent | undefined {
  switch (event.type) {
    case 'hook-failed':
      return fileError(event.testFile, `${event.title ?? 'a hook'}: ${describe(event.err)}`);
    case 'uncaught-exception':
      return fileError(event.testFile, `uncaught exception: ${describe(event.err)}`);
    case 'unhandled-rejection':
      return fileError(event.testFile, `unhandled rejection: ${describe(event.err)}`);
    case 'internal-error':
      return fileError(event.testFile, describe(event.err));
    case 'process-exit':
      return fileError(event.testFile, 'the test called process.exit');
    case 'missing-ava-import':
      return fileError(event.testFile, 'the file does not import ava');
    case 'worker-finished':
      return {
        type: 'file-finished',
        file: event.testFile,
        how: event.forcedExit ? 'was killed by AVA' : null,
        fromOutside: false,
      };
    case 'worker-failed':
      return {
        type: 'file-finished',
        file: fileOf(event),
        how: howItDied(event),
        fromOutside: FROM_OUTSIDE.has(event.signal ?? ''),
      };
    default:
      return undefined;
  }
}

/** The host was short of memory, or somebody tidied up. A crash has other signals. */
const FROM_OUTSIDE: ReadonlySet<string> = new Set(['SIGKILL', 'SIGTERM', 'SIGINT', 'SIGHUP']);

function howItDied(event: Event & { readonly type: 'worker-failed' }): string {
  // AVA's types say boolean; the code itself is what is sent.
  const code = event.nonZeroExitCode as number | undefined;
  if (event.signal !== undefined) return `was ended by ${event.signal}`;
  if (code !== undefined) return `exited ${code}`;
  return event.err === undefined ? 'died' : `died: ${describe(event.err)}`;
}

function fileOf(event: object): string {
  return 'testFile' in event ? String(event.testFile) : '';
}

function fileError(file: string | undefined, message: string): AvaEvent {
  return file === undefined ? { type: 'run-error', message } : { type: 'file-error', file, message };
}

function describe(error: SerializedError): string {
  if (error.formattedError !== undefined) return `threw ${error.formattedError}`;
  if (error.type === 'ava' && error.message?.startsWith('Error thrown in ') === true) {
    return (error.stack ?? error.message).split('\n').filter(isTelling).slice(0, 8).join('\n');
  }
  const details = Array.isArray(error.formattedDetails) ? error.formattedDetails.map(describeDetail) : [];
  const name = error.type === 'ava' || error.name === undefined ? '' : `${error.name}: `;
  const source = error.source ? [`at ${error.source.file}:${error.source.line}`] : [];
  return [`${name}${error.message ?? ''}`, ...details, ...source].filter((part) => part !== '').join('\n');
}

/** Not a frame of AVA's or Node's own. */
function isTelling(line: string): boolean {
  return !/^\s+at .*(?:node_modules\/ava\/|\(?node:)/.test(line);
}

function describeDetail(detail: unknown): string {
  const { label, formatted } = detail as { readonly label?: string; readonly formatted?: string };
  return [label ?? '', formatted ?? ''].filter((part) => part !== '').join('\n');
}

function write(fd: number, event: AvaEvent): void {
  try {
    writeSync(fd, `${JSON.stringify(event)}\n`);
  } catch {
    // The runner is gone; AVA's own end is decided elsewhere.
  }
}
