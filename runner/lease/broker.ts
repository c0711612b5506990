import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import type { Server, Socket } from 'node:net';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Leases } from './leases.ts';
import { LeaseSession } from './session.ts';

/**
 * Where test processes come for a machine: a unix socket in a directory that only this user can enter.
 * Disposing ends every connection and waits until every lease is settled.
 */
export class LeaseBroker implements AsyncDisposable {
  readonly socketPath: string;
  readonly #dir: string;
  readonly #server: Server;
  readonly #sessions: Set<LeaseSession>;

  private constructor(dir: string, socketPath: string, server: Server, sessions: Set<LeaseSession>) {
    this.#dir = dir;
    this.socketPath = socketPath;
    this.#server = server;
    this.#sessions = sessions;
  }

  static async listen(leases: Leases): Promise<LeaseBroker> {
    // mkdtemp makes it 0700. A socket path has at most 107 bytes: not below a run's own long path.
    const dir = await mkdtemp(join(tmpdir(), 'fusegate-lease-'));
    const sessions = new Set<LeaseSession>();
    const server = createServer((socket: Socket) => {
      const session = new LeaseSession(socket, leases);
      sessions.add(session);
      void session.done.finally(() => sessions.delete(session));
    });
    const socketPath = join(dir, 'broker');
    server.listen(socketPath);
    await once(server, 'listening');
    return new LeaseBroker(dir, socketPath, server, sessions);
  }

  /** Until no connection is open and no lease unsettled. */
  async idle(): Promise<void> {
    await Promise.allSettled([...this.#sessions].map((session) => session.done));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.close();
    for (const session of this.#sessions) session.end();
    await this.idle();
    await rm(this.#dir, { recursive: true, force: true });
  }
}
