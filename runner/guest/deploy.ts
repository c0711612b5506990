import { readFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { z } from 'zod';
import type { Emit } from '#runner/lib/events.ts';
import { Failure } from '#runner/lib/failure.ts';
import type { Machine } from '#runner/machine/machine.ts';
import type { CallOptions, Guest } from './guest.ts';
import { RpcClient } from './rpc-client.ts';
import { shellQuote, SshConnection, type ClientChannel, type CommandResult } from './ssh.ts';

export interface DeployContext {
  readonly emit: Emit;
  readonly signal: AbortSignal;
  /** Multiplies the deadlines below; at least 1. Default: 6 without KVM. */
  readonly slowdown?: number | undefined;
  readonly timeouts?: DeployTimeouts | undefined;
  /** How the daemon is started in the guest, given where it lies. Tests put another program here. */
  readonly command?: ((path: string) => string) | undefined;
}

/** Milliseconds on a machine with KVM. */
export interface DeployTimeouts {
  readonly connectMs: number;
  readonly helloMs: number;
  readonly silenceMs: number;
  /** How long the news of a lost machine may take after its connection broke. */
  readonly newsMs: number;
}

const TIMEOUTS: DeployTimeouts = { connectMs: 5_000, helloMs: 5_000, silenceMs: 10_000, newsMs: 1_500 };

/** Where the daemon lies in the guest, a tmpfs. */
const REMOTE = '/run/fusegate/daemon.js';

/** The agent's calibration loop under Node 24 on a guest with KVM. Milliseconds. */
const REFERENCE_MS = 4;

const Hello = z.looseObject({
  protocol: z.literal(1),
  kernelRelease: z.string(),
  node: z.string(),
  calibrationMs: z.number().nonnegative(),
});

/**
 * Brings the daemon into a booted machine and waits until its agent answers `hello`. Says `machine-ready`.
 *
 * @param bundle `path`: the daemon as one file on this machine.
 * @throws Failure of the machine when it is lost meanwhile; E_NO_NETWORK, E_MACHINE_HUNG (kernel);
 *   E_SSH_HOST_KEY, E_SSH_REFUSED, E_UPLOAD, E_AGENT_GONE, E_PROTOCOL, E_CALL_TIMEOUT (infra).
 */
export async function deployDaemon(
  machine: Machine,
  bundle: { readonly path: string },
  context: DeployContext,
): Promise<Guest> {
  const startedAt = performance.now();
  const factor = Math.max(1, context.slowdown ?? (machine.accelerator === 'tcg' ? 6 : 1));
  const limits = scale(context.timeouts ?? TIMEOUTS, factor);
  await using stack = new AsyncDisposableStack();
  const orLost = <T>(work: Promise<T>): Promise<T> => explainLoss(machine, work, limits.newsMs);

  const ssh = stack.use(
    await orLost(
      SshConnection.connect(machine.ssh, {
        signal: context.signal,
        connectMs: limits.connectMs,
        silenceMs: limits.silenceMs,
      }),
    ),
  );
  const rpc = await orLost(startAgent(ssh, bundle.path, context.command ?? defaultCommand));
  stack.defer(() => rpc.close(new Failure('E_AGENT_GONE', 'infra', 'the guest has been given back')));
  const options = { signal: context.signal, timeoutMs: limits.helloMs };
  const hello = Hello.safeParse(await orLost(rpc.call('hello', {}, options)));
  if (!hello.success) {
    throw new Failure('E_PROTOCOL', 'infra', 'the agent in the guest is of another version', {
      cause: hello.error,
    });
  }

  const deployMs = Math.round(performance.now() - startedAt);
  context.emit({ type: 'machine-ready', machine: machine.id, bootMs: machine.bootMs, deployMs });
  const held = stack.move();
  return {
    machine,
    deployMs,
    slowdown: Math.max(1, hello.data.calibrationMs / REFERENCE_MS),
    call: async (method, params, callOptions) => orLost(rpc.call(method, params, callOptions)),
    ssh: async (command, callOptions) => orLost(runCommand(ssh, command, callOptions ?? {})),
    [Symbol.asyncDispose]: async () => held.disposeAsync(),
  };
}

function defaultCommand(path: string): string {
  return `node ${shellQuote(path)} agent`;
}

/**
 * Upload and start in one channel: the first bytes of its input are the file, the rest is for the agent.
 * Each channel costs a fork and a shell in the guest, which under emulation is a tenth of a second.
 */
async function startAgent(
  ssh: SshConnection,
  bundle: string,
  command: (path: string) => string,
): Promise<RpcClient> {
  const content = await readFile(bundle);
  const path = shellQuote(REMOTE);
  const script = [
    `mkdir -p ${shellQuote(dirname(REMOTE))}`,
    `head -c ${content.byteLength} >${path}`,
    `exec ${command(REMOTE)}`,
  ].join(' && ');
  return ssh.start(script, (channel) => {
    const rpc = new RpcClient(channel, watchAgent(channel));
    void ssh.closed.then((failure) => rpc.close(failure));
    channel.write(content);
    return rpc;
  });
}

/** Remembers what the agent last complained about and how it ended; the result tells it as a Failure. */
function watchAgent(channel: ClientChannel): () => Failure {
  let said = '';
  let how = 'its channel was closed';
  channel.stderr.setEncoding('utf8');
  channel.stderr.on('data', (text: string) => {
    said = (said + text).slice(-4096);
  });
  channel.on('exit', (code: number | null, signal?: string) => {
    how = code === null ? `a signal ended it (${signal ?? 'unknown'})` : `it exited ${code}`;
  });
  return () => agentGone(how, said);
}

function agentGone(how: string, said: string): Failure {
  const last = said.trimEnd().split('\n').at(-1) ?? '';
  return new Failure(
    'E_AGENT_GONE',
    'infra',
    `the agent in the guest is gone: ${how}${last && `; ${last}`}`,
    {
      hint: 'if the guest ran out of memory, the console says so',
    },
  );
}

/**
 * Work on the guest, until it is done or the machine lost. A connection usually breaks a moment before the
 * reason is known, so a failure waits for the machine's own for a while.
 */
async function explainLoss<T>(machine: Machine, work: Promise<T>, newsMs: number): Promise<T> {
  const lost = machine.lost.then((failure) => Promise.reject(failure));
  lost.catch(() => undefined);
  try {
    return await Promise.race([work, lost]);
  } catch (error) {
    if (!(error instanceof Failure) || !BROKEN.has(error.code)) throw error;
    const late = Promise.withResolvers<undefined>();
    const timer = setTimeout(() => late.resolve(undefined), newsMs);
    const reason = await Promise.race([machine.lost, late.promise]);
    clearTimeout(timer);
    throw reason ?? withConsole(error, machine);
  }
}

/** What a lost machine looks like from this end of its connection. */
const BROKEN: ReadonlySet<string> = new Set([
  'E_SSH_CLOSED',
  'E_SSH_REFUSED',
  'E_SSH_CHANNEL',
  'E_NO_NETWORK',
  'E_MACHINE_HUNG',
  'E_AGENT_GONE',
]);

function withConsole(failure: Failure, machine: Machine): Failure {
  return new Failure(failure.code, failure.blame, failure.message, {
    hint: failure.hint,
    evidence: [...failure.evidence, { label: 'console', path: machine.consolePath }],
    cause: failure,
  });
}

async function runCommand(
  ssh: SshConnection,
  command: string,
  { signal, timeoutMs }: CallOptions,
): Promise<CommandResult> {
  const limit = new AbortController();
  const timer =
    timeoutMs === undefined
      ? undefined
      : setTimeout(() => limit.abort(commandTimeout(command, timeoutMs)), timeoutMs);
  try {
    return await ssh.run(command, {
      signal: signal === undefined ? limit.signal : AbortSignal.any([signal, limit.signal]),
    });
  } finally {
    clearTimeout(timer);
  }
}

function commandTimeout(command: string, afterMs: number): Failure {
  return new Failure('E_CALL_TIMEOUT', 'infra', `${command} did not end within ${afterMs} ms in the guest`);
}

function scale(timeouts: DeployTimeouts, factor: number): DeployTimeouts {
  return {
    connectMs: timeouts.connectMs * factor,
    helloMs: timeouts.helloMs * factor,
    silenceMs: timeouts.silenceMs * factor,
    newsMs: timeouts.newsMs * factor,
  };
}
