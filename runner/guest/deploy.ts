import { readFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { Emit } from '#runner/lib/events.ts';
import { Failure } from '#runner/lib/failure.ts';
import type { BootedMachine } from '#runner/machine/machine.ts';
import { daemonCommand } from './daemon-command.ts';
import type { CallOptions, DeployedGuest } from './guest.ts';
import { explainLoss } from './explain-loss.ts';
import { greetAgent } from './hello.ts';
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
export const REMOTE_DAEMON = '/run/fusegate/daemon.js';

/**
 * Brings the daemon into a booted machine and waits until its agent answers `hello`. Says `machine-ready`.
 *
 * @param bundle `path`: the daemon as one file on this machine.
 * @throws Failure of the machine when it is lost meanwhile; E_NO_NETWORK, E_MACHINE_HUNG (kernel);
 *   E_SSH_HOST_KEY, E_SSH_REFUSED, E_UPLOAD, E_AGENT_GONE, E_PROTOCOL, E_CALL_TIMEOUT (infra).
 */
export async function deployDaemon(
  machine: BootedMachine,
  bundle: { readonly path: string },
  context: DeployContext,
): Promise<DeployedGuest> {
  const startedAt = performance.now();
  const factor = Math.max(1, context.slowdown ?? (machine.accelerator === 'tcg' ? 6 : 1));
  const limits = scale(context.timeouts ?? TIMEOUTS, factor);
  await using stack = new AsyncDisposableStack();
  const orLost = <T>(work: Promise<T>): Promise<T> => explainLoss(machine, work, limits.newsMs);
  const interrupted = Promise.withResolvers<never>();
  interrupted.promise.catch(() => undefined);
  const interrupt = (): void => interrupted.reject(context.signal.reason);
  context.signal.addEventListener('abort', interrupt, { once: true });
  stack.defer(() => context.signal.removeEventListener('abort', interrupt));

  const ssh = stack.use(
    await orLost(
      SshConnection.connect(machine.ssh, {
        signal: context.signal,
        connectMs: limits.connectMs,
        silenceMs: limits.silenceMs,
      }),
    ),
  );
  const command = context.command ?? ((path) => daemonCommand(machine.accelerator, path, 'agent'));
  const rpc = await orLost(Promise.race([startAgent(ssh, bundle.path, command), interrupted.promise]));
  stack.defer(() => rpc.close(new Failure('E_AGENT_GONE', 'infra', 'the guest has been given back')));
  const options = { signal: context.signal, timeoutMs: limits.helloMs };
  const slowdown = await orLost(greetAgent(rpc, options));

  const deployMs = Math.round(performance.now() - startedAt);
  context.emit({ type: 'machine-ready', machine: machine.id, bootMs: machine.bootMs, deployMs });
  const held = stack.move();
  return {
    machine,
    deployMs,
    slowdown,
    call: async (method, params, callOptions) => orLost(rpc.call(method, params, callOptions)),
    ssh: async (command, callOptions) => orLost(runCommand(ssh, command, callOptions ?? {})),
    [Symbol.asyncDispose]: async () => held.disposeAsync(),
  };
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
  const path = shellQuote(REMOTE_DAEMON);
  const dir = shellQuote(dirname(REMOTE_DAEMON));
  const script = [
    `{ [ -d ${dir} ] || mkdir -p ${dir}; }`,
    `head -c ${content.byteLength} >${path}`,
    `exec ${command(REMOTE_DAEMON)}`,
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
