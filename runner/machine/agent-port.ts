import { once } from 'node:events';
import { createServer, type Server, type Socket } from 'node:net';

/**
 * The host's end of the agent's virtio-serial port. We listen and QEMU connects when it starts, so that the
 * guest never sees the port without a host: a restored one goes on where it was saved.
 */
export class AgentPort implements AsyncDisposable {
  readonly #server: Server;
  readonly #connected = Promise.withResolvers<Socket>();
  #socket: Socket | undefined;

  private constructor(server: Server) {
    this.#server = server;
  }

  static async listen(path: string): Promise<AgentPort> {
    const server = createServer();
    const port = new AgentPort(server);
    server.on('connection', (socket) => {
      port.#socket = socket;
      // Its end is told by the end of the machine.
      socket.on('error', () => undefined);
      port.#connected.resolve(socket);
    });
    server.listen(path);
    await once(server, 'listening');
    return port;
  }

  /** Resolves when QEMU has connected. */
  get stream(): Promise<Socket> {
    return this.#connected.promise;
  }

  /** The guest has closed its end: nobody there reads or answers any more. */
  hangUp(): void {
    this.#socket?.destroy();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#socket?.destroy();
    if (!this.#server.listening) return;
    this.#server.close();
    await once(this.#server, 'close');
  }
}
