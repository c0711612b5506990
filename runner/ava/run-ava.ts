import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { Duplex, Readable } from 'node:stream';
import { join } from 'node:path';
import { endGroup } from '#runner/lib/end-group.ts';
import { Failure } from '#runner/lib/failure.ts';
import { cacheDir } from '#runner/lib/paths.ts';
import { signalGroup } from '#runner/lib/process-table.ts';
import type { AvaEvent } from './ava-event.ts';
import { AVA_EVENTS_FD_ENV, avaEventSchema } from './ava-event.ts';

export interface RunAvaOptions {
  /** Directory of the package.json and of ava.config.js. */
  readonly projectDir: string;
  /** Absolute or relative to `projectDir`; none: all. */
  readonly files: readonly string[];
  /** AVA's `--match` patterns; none: all. */
  readonly match: readonly string[];
  /** Receives what AVA and the tests print. */
  readonly log: string;
  readonly env: Readonly<Record<string, string>>;
  readonly onEvent: (event: AvaEvent) => void;
  /** Ends AVA: politely first, then its process group. */
  readonly signal: AbortSignal;
  /** How long AVA may live on after its last event, or after being asked to end. Milliseconds. */
  readonly graceMs?: number | undefined;
  /** Without any event for this long AVA itself hangs (its own idle clock is far shorter). Milliseconds. */
  readonly silenceMs?: number | undefined;
}

const GRACE_MS = 15_000;
const SILENCE_MS = 45 * 60_000;
const GONE_MS = 5_000;

/**
 * Runs AVA as a child that leads its own process group and dies with this process.
 * @throws Failure E_AVA_FAILED (infra) when AVA came to its end without having said that the run ended.
 */
export async function runAva(options: RunAvaOptions): Promise<void> {
  const child = start(options);
  const graceMs = options.graceMs ?? GRACE_MS;
  const watchdog = new Watchdog(child);
  let ended = false;
  let runError: string | undefined;

  const polite = (): void => {
    child.kill('SIGINT');
    watchdog.set(graceMs);
  };
  options.signal.addEventListener('abort', polite, { once: true });
  if (options.signal.aborted) polite();
  else watchdog.set(options.silenceMs ?? SILENCE_MS);

  try {
    const exited = exitOf(child);
    // A program that cannot be started says so before we come to wait for it.
    exited.catch(() => undefined);
    for await (const line of createInterface({ input: eventsOf(child) })) {
      const event = parseEvent(line);
      if (event === undefined) continue;
      if (!options.signal.aborted) {
        watchdog.set(
          event.type === 'ended' || event.type === 'timeout' ? graceMs : (options.silenceMs ?? SILENCE_MS),
        );
      }
      ended ||= event.type === 'ended';
      if (event.type === 'run-error') runError = event.message;
      options.onEvent(event);
    }
    const how = await exited;
    if (!options.signal.aborted && (runError !== undefined || !ended))
      throw avaFailed(runError ?? how, options.log);
  } finally {
    watchdog.clear();
    options.signal.removeEventListener('abort', polite);
    await endGroup(child.pid, GONE_MS);
  }
}

function start(options: RunAvaOptions): ChildProcess {
  const ava = join(options.projectDir, 'node_modules', 'ava', 'entrypoints', 'cli.js');
  const args = [
    ava,
    '--config',
    join(options.projectDir, 'ava.config.js'),
    ...options.match.map((pattern) => `--match=${pattern}`),
    ...options.files,
  ];
  const log = openSync(options.log, 'a');
  try {
    // setpriv: the kernel kills AVA when this process is killed and can clean up nothing any more.
    return spawn('setpriv', ['--pdeathsig', 'KILL', process.execPath, ...args], {
      cwd: options.projectDir,
      detached: true,
      stdio: ['ignore', log, log, 'pipe'],
      env: {
        ...process.env,
        // Each test file is a process of its own, and they load the same modules.
        NODE_COMPILE_CACHE: cacheDir('compiled'),
        ...options.env,
        [AVA_EVENTS_FD_ENV]: '3',
        FORCE_COLOR: '0',
      },
    });
  } finally {
    closeSync(log);
  }
}

function eventsOf(child: ChildProcess): Readable {
  const stream = child.stdio[3];
  if (stream instanceof Duplex || stream instanceof Readable) return stream;
  throw new TypeError('the child has no event stream');
}

function exitOf(child: ChildProcess): Promise<string> {
  return new Promise((resolve, reject) => {
    child.once('error', (error) => {
      reject(
        new Failure('E_TOOL_MISSING', 'infra', `AVA could not be started: ${error.message}`, {
          hint: 'run `make doctor`: it names what is missing and the command that installs it',
          cause: error,
        }),
      );
    });
    child.once('exit', (code, signal) => {
      resolve(signal === null ? `exited ${String(code)}` : `was ended by ${signal}`);
    });
  });
}

function parseEvent(line: string): AvaEvent | undefined {
  try {
    return avaEventSchema.parse(JSON.parse(line));
  } catch {
    return undefined;
  }
}

/** One timer; when it fires, the whole process group is killed. */
class Watchdog {
  readonly #child: ChildProcess;
  #timer: NodeJS.Timeout | undefined;

  constructor(child: ChildProcess) {
    this.#child = child;
  }

  set(afterMs: number): void {
    this.clear();
    this.#timer = setTimeout(() => {
      killGroup(this.#child);
    }, afterMs);
  }

  clear(): void {
    clearTimeout(this.#timer);
  }
}

function killGroup({ pid }: ChildProcess): void {
  if (pid !== undefined) signalGroup(pid, 'SIGKILL');
}

function avaFailed(why: string, log: string): Failure {
  return new Failure(
    'E_AVA_FAILED',
    'infra',
    `AVA ended before the suites did: ${why.split('\n')[0] ?? why}`,
    {
      hint: `read ${log}`,
      evidence: [{ label: 'AVA log', path: log }],
    },
  );
}
