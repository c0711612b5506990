import { createWriteStream } from 'node:fs';
import { execa, ExecaError } from 'execa';
import { Failure } from './failure.ts';

export interface ExecOptions {
  readonly cwd?: string | undefined;
  /** Added to the environment of this process. */
  readonly env?: Readonly<Record<string, string>> | undefined;
  readonly input?: string | Uint8Array | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly timeoutMs?: number | undefined;
  /** File that receives stdout and stderr, interleaved as they came. */
  readonly log?: string | undefined;
  /** Called with every line of stdout and stderr, for progress. */
  readonly onLine?: ((line: string) => void) | undefined;
}

export interface ExecResult {
  /** `undefined` when a signal ended the program. */
  readonly exitCode: number | undefined;
  readonly signal: string | undefined;
  readonly stdout: string;
  readonly stderr: string;
  readonly durationMs: number;
}

/**
 * Enough for a program that is asked for its version. It takes a tenth of a second; the first time after a
 * machine came up, with its disk slow or busy, Python and what it imports were seen to take more than 20 s.
 * Milliseconds.
 */
export const VERSION_MS = 120_000;

/** How long the output of a program that was killed may stay open after its end. Milliseconds. */
const STRAY_OUTPUT_MS = 1000;

/**
 * Runs a program and waits for its end; an exit code other than 0 is a result, not an error.
 * The program leads a process group of its own, which is killed as a whole on abort and time-out.
 *
 * @throws Failure E_TOOL_MISSING (infra) when the program is not there, E_INTERRUPTED when `signal` fired,
 *   E_TIMEOUT (infra) when `timeoutMs` passed.
 */
export async function exec(
  program: string,
  args: readonly string[],
  options: ExecOptions = {},
): Promise<ExecResult> {
  const subprocess = execa(program, args, {
    reject: false,
    buffer: options.onLine === undefined && options.log === undefined,
    stdin: options.input === undefined ? 'ignore' : 'pipe',
    all: true,
    cleanup: true,
    killDescendants: true,
    forceKillAfterDelay: 2000,
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    ...(options.env === undefined ? {} : { env: { ...options.env } }),
    ...(options.input === undefined ? {} : { input: options.input }),
    ...(options.signal === undefined ? {} : { cancelSignal: options.signal }),
    ...(options.timeoutMs === undefined ? {} : { timeout: options.timeoutMs }),
  });
  if (options.log !== undefined) subprocess.all.pipe(createWriteStream(options.log, { flags: 'a' }));
  const lines = options.onLine === undefined ? undefined : watchLines(subprocess.all, options.onLine);
  lines?.catch(() => undefined);
  // Somebody it started may have left the process group and still hold its output open.
  let impatience: NodeJS.Timeout | undefined;
  subprocess.nodeChildProcess.once('exit', (_code, endedBy) => {
    if (endedBy === null && options.signal?.aborted !== true) return;
    impatience = setTimeout(() => {
      subprocess.stdout.destroy();
      subprocess.stderr.destroy();
    }, STRAY_OUTPUT_MS);
  });
  const result = await subprocess;
  clearTimeout(impatience);
  if (impatience === undefined) await lines;
  if (result instanceof ExecaError) refuse(program, result, options);
  return {
    exitCode: result.exitCode,
    signal: result.signal,
    stdout: result.stdout ?? '',
    stderr: result.stderr ?? '',
    durationMs: result.durationMs,
  };
}

/** As `exec`, but an exit code other than 0 is a Failure with the last lines the program said. */
export async function execOrFail(
  program: string,
  args: readonly string[],
  options: ExecOptions & {
    readonly code?: `E_${string}` | undefined;
    readonly hint?: string | undefined;
  } = {},
): Promise<ExecResult> {
  const result = await exec(program, args, options);
  if (result.exitCode === 0) return result;
  const said = lastLines(result.stderr === '' ? result.stdout : result.stderr, 3);
  const how =
    result.exitCode === undefined
      ? `was ended by ${result.signal ?? 'a signal'}`
      : `exited ${result.exitCode}`;
  throw new Failure(
    options.code ?? 'E_TOOL_FAILED',
    'infra',
    `${program} ${how}${said === '' ? '' : `: ${said}`}`,
    {
      hint: options.hint,
      evidence: options.log === undefined ? [] : [{ label: `${program} log`, path: options.log }],
    },
  );
}

export function lastLines(text: string, count: number): string {
  return text.trimEnd().split('\n').slice(-count).join(' / ').trim();
}

async function watchLines(stream: NodeJS.ReadableStream, onLine: (line: string) => void): Promise<void> {
  let rest = '';
  stream.setEncoding('utf8');
  for await (const chunk of stream) {
    const lines = (rest + String(chunk)).split('\n');
    rest = lines.pop() ?? '';
    for (const line of lines) onLine(line);
  }
  if (rest !== '') onLine(rest);
}

type RunFailure = Pick<ExecaError, 'isCanceled' | 'timedOut' | 'shortMessage' | 'message'> & {
  readonly code?: string | undefined;
  readonly exitCode?: number | undefined;
  readonly signal?: string | undefined;
  readonly originalMessage?: string | undefined;
};

function refuse(program: string, error: RunFailure, options: ExecOptions): void {
  if (error.isCanceled) {
    throw options.signal?.reason instanceof Failure
      ? options.signal.reason
      : new Failure('E_INTERRUPTED', 'interrupted', `${program} was interrupted`, { cause: error });
  }
  if (error.timedOut) {
    throw new Failure(
      'E_TIMEOUT',
      'infra',
      `${program} did not finish within ${String(options.timeoutMs)} ms`,
      {
        cause: error,
        evidence: options.log === undefined ? [] : [{ label: `${program} log`, path: options.log }],
      },
    );
  }
  if (error.code === 'ENOENT' && error.exitCode === undefined) {
    throw new Failure('E_TOOL_MISSING', 'infra', `${program} is not installed`, {
      hint: 'run `make doctor`: it names what is missing and the command that installs it',
      cause: error,
    });
  }
  if (error.exitCode === undefined && error.signal === undefined) {
    throw new Failure(
      'E_TOOL_FAILED',
      'infra',
      `${program} could not be started: ${error.originalMessage ?? error.shortMessage}`,
      {
        cause: error,
      },
    );
  }
}
