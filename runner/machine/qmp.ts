import { EventEmitter, once } from 'node:events';
import { rm } from 'node:fs/promises';
import { createServer, type Server, type Socket } from 'node:net';
import { z } from 'zod';
import { beforeDeadline } from '#runner/lib/deadline.ts';
import { Failure } from '#runner/lib/failure.ts';
import { parseJson } from '#runner/lib/json.ts';

const EventData = z.looseObject({
  reason: z.string().optional(),
  status: z.string().optional(),
  id: z.string().optional(),
  open: z.boolean().optional(),
});
type EventData = z.infer<typeof EventData>;

const Message = z.union([
  z.object({ QMP: z.unknown() }),
  z.object({ event: z.string(), data: EventData.optional() }),
  z.object({ return: z.unknown(), id: z.int().optional() }),
  z.object({ error: z.object({ class: z.string(), desc: z.string() }), id: z.int().optional() }),
]);

/**
 * QEMU's control channel (docs/interop/qmp-spec). We listen and QEMU connects, so there is no moment at
 * which it would be too early to connect.
 */
export class QmpChannel implements AsyncDisposable {
  readonly #server: Server;
  #socket: Socket | undefined;
  readonly #connected = Promise.withResolvers<undefined>();
  readonly #waiting = new Map<number, PromiseWithResolvers<unknown>>();
  readonly #migration = new EventEmitter<{ status: [string] }>();
  readonly #ports = new EventEmitter<{ closed: [device: string] }>();
  #rest = '';
  #nextId = 1;
  #shutdown: string | undefined;

  private constructor(server: Server) {
    this.#server = server;
  }

  static async listen(path: string): Promise<QmpChannel> {
    const server = createServer();
    const channel = new QmpChannel(server);
    server.on('connection', (socket) => channel.#accept(socket));
    server.listen(path);
    await once(server, 'listening');
    return channel;
  }

  /** Why QEMU said that it stops: `guest-reset`, `guest-shutdown`, `host-signal`, …; `undefined` if it has not. */
  get shutdownReason(): string | undefined {
    return this.#shutdown;
  }

  /** Has `listener` called whenever the guest closes that virtio-serial port. */
  onPortClosed(device: string, listener: () => void): void {
    this.#ports.on('closed', (closed) => {
      if (closed === device) listener();
    });
  }

  /** Asks QEMU to end. False when it never connected or is gone. */
  quit(): boolean {
    return this.#send({ execute: 'quit' });
  }

  /**
   * One command and its answer, as soon as QEMU has connected.
   * @throws Failure E_QMP (infra) when QEMU refuses or goes away.
   */
  async execute(command: string, args: Readonly<Record<string, unknown>> = {}): Promise<unknown> {
    await this.#connected.promise;
    const id = this.#nextId++;
    const answer = Promise.withResolvers<unknown>();
    this.#waiting.set(id, answer);
    if (!this.#send({ execute: command, arguments: args, id })) {
      this.#waiting.delete(id);
      throw new Failure('E_QMP', 'infra', `QEMU went away before ${command}`);
    }
    return answer.promise;
  }

  /**
   * The machine as QEMU sees it: whether it runs, and the registers of every CPU.
   * @throws Failure E_QMP (infra) when QEMU does not answer in time.
   */
  async describe(timeoutMs: number): Promise<string> {
    const registers = { 'command-line': 'info registers -a' };
    const answers = Promise.all([
      this.execute('query-status'),
      this.execute('human-monitor-command', registers),
    ]);
    const [status, text] = await beforeDeadline(answers, timeoutMs, () => {
      throw new Failure('E_QMP', 'infra', `QEMU has not answered in ${timeoutMs} ms`);
    });
    return `status ${JSON.stringify(status)}\n${String(text)}`;
  }

  /**
   * Writes the guest's memory to a file: compressed for crash(8) where this QEMU can, else as ELF. What is there
   * of one that was too late or broke is removed.
   * @throws Failure E_QMP (infra)
   */
  async dumpMemory(path: string, timeoutMs: number): Promise<void> {
    const dump = async (format: string): Promise<unknown> =>
      this.execute('dump-guest-memory', { paging: false, protocol: `file:${path}`, format });
    const work = dump('kdump-zlib').catch(() => dump('elf'));
    try {
      await beforeDeadline(work, timeoutMs, () => {
        throw new Failure('E_QMP', 'infra', `it took more than ${timeoutMs} ms`);
      });
    } catch (error) {
      await rm(path, { force: true });
      throw error;
    }
  }

  /**
   * Saves or loads the machine's state and waits until that is done.
   * @throws Failure E_QMP (infra) when it fails or QEMU goes away.
   */
  async migrate(command: 'migrate' | 'migrate-incoming', uri: string): Promise<void> {
    const done = Promise.withResolvers<string>();
    const look = (status: string): void => {
      if (status === 'completed' || status === 'failed' || status === 'gone') done.resolve(status);
    };
    this.#migration.on('status', look);
    try {
      await this.execute('migrate-set-capabilities', {
        capabilities: [{ capability: 'events', state: true }],
      });
      await this.execute(command, { uri });
      const status = await done.promise;
      if (status !== 'completed') throw new Failure('E_QMP', 'infra', `${command}: ${status}`);
    } finally {
      this.#migration.off('status', look);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#socket?.destroy();
    if (!this.#server.listening) return;
    this.#server.close();
    await once(this.#server, 'close');
  }

  #accept(socket: Socket): void {
    this.#socket?.destroy();
    this.#socket = socket;
    socket.setEncoding('utf8');
    socket.on('error', () => undefined);
    socket.on('data', (text: string) => this.#receive(text));
    socket.on('close', () => this.#gone());
    this.#send({ execute: 'qmp_capabilities' });
    this.#connected.resolve(undefined);
  }

  #receive(text: string): void {
    const lines = (this.#rest + text).split('\n');
    this.#rest = lines.pop() ?? '';
    for (const line of lines) {
      const message = Message.safeParse(parseJson(line));
      if (message.success) this.#take(message.data);
    }
  }

  #take(message: z.infer<typeof Message>): void {
    if ('event' in message) {
      this.#hear(message.event, message.data ?? {});
      return;
    }
    if ('QMP' in message || message.id === undefined) return;
    const waiting = this.#waiting.get(message.id);
    this.#waiting.delete(message.id);
    if ('error' in message) waiting?.reject(new Failure('E_QMP', 'infra', `QEMU: ${message.error.desc}`));
    else waiting?.resolve(message.return);
  }

  #hear(event: string, data: EventData): void {
    if (event === 'SHUTDOWN') this.#shutdown = data.reason ?? 'unknown';
    if (event === 'MIGRATION') this.#migration.emit('status', data.status ?? '');
    if (event === 'VSERPORT_CHANGE' && data.open === false) this.#ports.emit('closed', data.id ?? '');
  }

  #gone(): void {
    this.#migration.emit('status', 'gone');
    for (const { reject } of this.#waiting.values()) reject(new Failure('E_QMP', 'infra', 'QEMU went away'));
    this.#waiting.clear();
  }

  #send(command: Readonly<Record<string, unknown>>): boolean {
    const socket = this.#socket;
    if (socket === undefined || socket.destroyed || !socket.writable) return false;
    socket.write(`${JSON.stringify(command)}\n`);
    return true;
  }
}
