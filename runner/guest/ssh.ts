import { readFile } from 'node:fs/promises';
import ssh2, { type ClientChannel, type ConnectConfig } from 'ssh2';
import { Failure } from '#runner/lib/failure.ts';
import type { SshEndpoint } from '#runner/machine/machine.ts';

export type { ClientChannel };

export interface ConnectOptions {
  readonly signal?: AbortSignal | undefined;
  /** For the whole handshake. Milliseconds. */
  readonly connectMs: number;
  /** The guest is taken for hung when it leaves this many milliseconds of keepalives unanswered. */
  readonly silenceMs: number;
}

export interface CommandResult {
  /** 255 when a signal ended it, as ssh(1) has it. */
  readonly code: number;
  readonly signal: string | undefined;
  readonly stdout: string;
  readonly stderr: string;
}

/** Keepalives in one silence. */
const KEEPALIVES = 5;

/** All there is of ssh2 in fusegate: one authenticated connection to a guest whose host key is known. */
export class SshConnection implements AsyncDisposable {
  readonly #client: ssh2.Client;
  readonly #closed = Promise.withResolvers<Failure>();
  #reason: Failure | undefined;

  private constructor(client: ssh2.Client) {
    this.#client = client;
    client.on('error', (error: Error) => this.#fail(connectionFailure(error)));
    client.on('close', () =>
      this.#fail(new Failure('E_SSH_CLOSED', 'infra', 'the SSH connection was closed')),
    );
  }

  /**
   * Connects and logs in. Only the machine's own host key is accepted.
   *
   * @throws Failure E_NO_NETWORK (kernel), E_SSH_HOST_KEY, E_SSH_REFUSED (infra), or the signal's reason.
   */
  static async connect(endpoint: SshEndpoint, options: ConnectOptions): Promise<SshConnection> {
    options.signal?.throwIfAborted();
    const connection = new SshConnection(new ssh2.Client());
    const ready = new Promise<undefined>((resolve) => {
      connection.#client.once('ready', () => resolve(undefined));
      // A request is written in pieces: Nagle's algorithm would keep the last back until the first is acknowledged.
      connection.#client.once('connect', () => connection.#client.setNoDelay(true));
    });
    const abort = (): void => connection.#fail(interruption(options.signal));
    options.signal?.addEventListener('abort', abort, { once: true });
    try {
      const shown: { key?: string } = {};
      connection.#client.connect(
        clientConfig(endpoint, options, (key) => {
          shown.key = key.toString('base64');
          return shown.key === endpoint.hostKey;
        }),
      );
      const failure = await Promise.race([ready, connection.closed]);
      if (failure === undefined) return connection;
      throw shown.key !== undefined && shown.key !== endpoint.hostKey
        ? foreignKeyFailure(endpoint, failure)
        : failure;
    } finally {
      options.signal?.removeEventListener('abort', abort);
    }
  }

  /** Never rejects. Resolves with the reason when the connection is gone. */
  get closed(): Promise<Failure> {
    return this.#closed.promise;
  }

  /**
   * Starts a command and leaves it running: its standard streams are the channel's.
   *
   * @param attach gets the channel before anything that comes over it is handed on. A short command's whole
   *   life can arrive together with the news that it was started; whoever attaches later misses it.
   */
  async start<T>(command: string, attach: (channel: ClientChannel) => T): Promise<T> {
    const opened = new Promise<T>((resolve, reject) => {
      this.#client.exec(command, (error, channel) => {
        if (error === undefined) resolve(attach(channel));
        else
          reject(
            new Failure('E_SSH_CHANNEL', 'infra', `the guest did not start ${command}`, { cause: error }),
          );
      });
    });
    return Promise.race([opened, this.#closed.promise.then((failure) => Promise.reject(failure))]);
  }

  /** Runs a command to its end; its streams are closed when `signal` fires. Any exit code is a result. */
  async run(
    command: string,
    { input, signal }: { readonly input?: Uint8Array; readonly signal?: AbortSignal } = {},
  ): Promise<CommandResult> {
    signal?.throwIfAborted();
    const { channel, result } = await this.start(command, (started) => ({
      channel: started,
      result: collect(started, command),
    }));
    const aborted = Promise.withResolvers<never>();
    aborted.promise.catch(() => undefined);
    const abort = (): void => {
      channel.close();
      aborted.reject(signal?.reason);
    };
    if (signal?.aborted === true) abort();
    signal?.addEventListener('abort', abort, { once: true });
    channel.end(input);
    try {
      const broken = this.#closed.promise.then((failure) => Promise.reject(failure));
      return await Promise.race([result, broken, aborted.promise]);
    } finally {
      signal?.removeEventListener('abort', abort);
    }
  }

  /** @throws Failure E_UPLOAD (infra) */
  async upload(local: string, remote: string): Promise<void> {
    const { code, stderr } = await this.run(`cat >${shellQuote(remote)}`, {
      input: await readFile(local),
    });
    if (code === 0) return;
    throw new Failure('E_UPLOAD', 'infra', `${remote} could not be written in the guest: ${stderr.trim()}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#reason === undefined) this.#client.end();
    this.#fail(new Failure('E_SSH_CLOSED', 'infra', 'the SSH connection has been closed'));
    await this.#closed.promise;
  }

  #fail(reason: Failure): void {
    this.#reason ??= reason;
    this.#closed.resolve(this.#reason);
    this.#client.destroy();
  }
}

/** Everything a command says until its channel closes. Rejects if that happens before it has ended. */
async function collect(channel: ClientChannel, command: string): Promise<CommandResult> {
  const stdout: Buffer[] = [];
  const stderr: Buffer[] = [];
  let exit: Pick<CommandResult, 'code' | 'signal'> | undefined;
  channel.on('data', (chunk: Buffer) => stdout.push(chunk));
  channel.stderr.on('data', (chunk: Buffer) => stderr.push(chunk));
  channel.on('error', () => undefined);
  channel.on('exit', (code: number | null, signal?: string) => {
    exit = { code: code ?? 255, signal };
  });
  return new Promise((resolve, reject) => {
    channel.on('close', () => {
      if (exit === undefined) {
        reject(new Failure('E_SSH_CHANNEL', 'infra', `${command} was cut off in the guest`));
      } else {
        resolve({
          ...exit,
          stdout: Buffer.concat(stdout).toString(),
          stderr: Buffer.concat(stderr).toString(),
        });
      }
    });
  });
}

/** One word of a POSIX shell command. */
export function shellQuote(word: string): string {
  return `'${word.replaceAll("'", `'\\''`)}'`;
}

function clientConfig(
  { host, port, username, privateKey }: SshEndpoint,
  { connectMs, silenceMs }: ConnectOptions,
  hostVerifier: (key: Buffer) => boolean,
): ConnectConfig {
  return {
    host,
    port,
    username,
    privateKey,
    hostVerifier,
    readyTimeout: connectMs,
    keepaliveInterval: Math.ceil(silenceMs / KEEPALIVES),
    keepaliveCountMax: KEEPALIVES,
    authHandler: ['publickey'],
    algorithms: { serverHostKey: ['ssh-ed25519'], kex: ['curve25519-sha256'], compress: ['none'] },
  };
}

function connectionFailure(error: Error & { readonly level?: string }): Failure {
  const cause = { cause: error };
  if (error.message === 'Keepalive timeout') {
    return new Failure('E_MACHINE_HUNG', 'kernel', 'the guest no longer answers, though QEMU runs', cause);
  }
  if (error.level === 'client-timeout') {
    return new Failure('E_NO_NETWORK', 'kernel', "the guest's sshd does not answer over the network", {
      hint: 'the kernel needs CONFIG_VIRTIO_NET and CONFIG_INET; the console shows what it found',
      ...cause,
    });
  }
  return new Failure('E_SSH_REFUSED', 'infra', `SSH to the guest failed: ${error.message}`, cause);
}

function foreignKeyFailure({ port }: SshEndpoint, cause: Failure): Failure {
  return new Failure(
    'E_SSH_HOST_KEY',
    'infra',
    `who answers on 127.0.0.1:${port} is not the guest we booted: it shows another host key`,
    { cause, hint: 'another program took the port; run it again' },
  );
}

function interruption(signal: AbortSignal | undefined): Failure {
  if (signal?.reason instanceof Failure) return signal.reason;
  return new Failure('E_INTERRUPTED', 'interrupted', 'interrupted while connecting to the guest');
}
