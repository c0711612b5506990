import { once } from 'node:events';
import { createServer, type Server, type Socket } from 'node:net';
import { z } from 'zod';

const Message = z.union([
  z.object({ QMP: z.unknown() }),
  z.object({ event: z.string(), data: z.looseObject({ reason: z.string().optional() }).optional() }),
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
  #rest = '';
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

  /** Asks QEMU to end. False when it never connected or is gone. */
  quit(): boolean {
    return this.#send({ execute: 'quit' });
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
    this.#send({ execute: 'qmp_capabilities' });
  }

  #receive(text: string): void {
    const lines = (this.#rest + text).split('\n');
    this.#rest = lines.pop() ?? '';
    for (const line of lines) {
      const message = Message.safeParse(parseJson(line));
      if (message.success && 'event' in message.data && message.data.event === 'SHUTDOWN') {
        this.#shutdown = message.data.data?.reason ?? 'unknown';
      }
    }
  }

  #send(command: Readonly<Record<string, unknown>>): boolean {
    const socket = this.#socket;
    if (socket === undefined || socket.destroyed || !socket.writable) return false;
    socket.write(`${JSON.stringify(command)}\n`);
    return true;
  }
}

function parseJson(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    return undefined;
  }
}
