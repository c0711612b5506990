import { text } from './bytes.ts';
import { SyscallError, type Client } from './client.ts';

/** Longer than any message is. */
const ROOM = 4096;

/** What a step with a context came to, and what the kernel has said of it: `e fuse: Invalid rootmode`. */
export interface Step {
  readonly errno: string;
  readonly said: readonly string[];
}

/** A step that went well, of which there is nothing to say. */
export const DONE: Step = { errno: 'ok', said: [] };

/** A filesystem that is put together, or changed, step by step (fsopen(2), fspick(2)). */
export class FsContext implements AsyncDisposable {
  readonly fd: number;
  readonly #client: Client;

  private constructor(client: Client, fd: number) {
    this.#client = client;
    this.fd = fd;
  }

  /** For a filesystem that is not there yet. @throws SyscallError */
  static async open(client: Client, type: string): Promise<FsContext> {
    return new FsContext(client, await client.fsopen({ type }));
  }

  /** One that the client has already, of another process perhaps. */
  static of(client: Client, fd: number): FsContext {
    return new FsContext(client, fd);
  }

  /** For the one that is mounted at `path`. @throws SyscallError */
  static async pick(client: Client, path: string): Promise<FsContext> {
    return new FsContext(client, await client.fspick({ path }));
  }

  /** An option as for `mount -o`: `ro`, `max_read=4096`. */
  async set(option: string): Promise<Step> {
    const at = option.indexOf('=');
    const { fd } = this;
    return this.#step(
      at === -1
        ? { fd, command: 'FSCONFIG_SET_FLAG', key: option }
        : { fd, command: 'FSCONFIG_SET_STRING', key: option.slice(0, at), value: option.slice(at + 1) },
    );
  }

  create(): Promise<Step> {
    return this.#step({ fd: this.fd, command: 'FSCONFIG_CMD_CREATE' });
  }

  reconfigure(): Promise<Step> {
    return this.#step({ fd: this.fd, command: 'FSCONFIG_CMD_RECONFIGURE' });
  }

  async #step(args: Parameters<Client['fsconfig']>[0]): Promise<Step> {
    const errno = await this.#client.errno.fsconfig(args);
    return { errno, said: await this.#said() };
  }

  async #said(): Promise<string[]> {
    const messages: string[] = [];
    for (;;) {
      try {
        messages.push(text(await this.#client.read({ fd: this.fd, count: ROOM })).trimEnd());
      } catch (error) {
        if (error instanceof SyscallError && error.errno === 'ENODATA') return messages;
        throw error;
      }
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#client.close({ fd: this.fd });
  }
}

interface Switched {
  readonly option: 'ro' | 'rw';
  readonly set: Step;
  readonly reconfigured: Step;
  /** The errno of a call that writes, then. */
  readonly write: string;
}

/** Makes what is mounted read-only and writable again, by one context, and writes after each. */
export async function switchReadOnly(
  context: FsContext,
  write: () => Promise<string>,
): Promise<readonly Switched[]> {
  const switched: Switched[] = [];
  for (const option of ['ro', 'rw'] as const) {
    const [set, reconfigured] = [await context.set(option), await context.reconfigure()];
    switched.push({ option, set, reconfigured, write: await write() });
  }
  return switched;
}

/** As it should go. */
export const SWITCHED: readonly Switched[] = [
  { option: 'ro', set: DONE, reconfigured: DONE, write: 'EROFS' },
  { option: 'rw', set: DONE, reconfigured: DONE, write: 'ok' },
];
