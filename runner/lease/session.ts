import type { Socket } from 'node:net';
import { z } from 'zod';
import { encodeFrame, FrameDecoder } from '#rootfs/protocol/frame.ts';
import type { RpcError } from '#rootfs/protocol/rpc.ts';
import { Failure } from '#runner/lib/failure.ts';
import { cleanLine } from '#runner/lib/clean-text.ts';
import { normaliseTestId } from '#runner/ava/test-id.ts';
import type { Lease, Leases } from './leases.ts';

const request = z.object({ id: z.int(), method: z.string(), params: z.unknown() });
const acquireParams = z.object({
  test: z.string().min(1),
  share: z.enum(['shared', 'alone', 'cold']).default('shared'),
});
const finishParams = z.object({ passed: z.boolean(), timedOut: z.boolean().default(false) });
const skipParams = z.object({ reason: z.string().min(1) });

type Request = z.infer<typeof request>;

/**
 * One connection of a test process: at most one lease. The end of the connection, however it comes, ends the
 * lease.
 */
export class LeaseSession {
  readonly #socket: Socket;
  readonly #leases: Leases;
  readonly #closed = new AbortController();
  /** Settles when the connection is over and the lease on it, if any, is settled. */
  readonly done: Promise<void>;
  #lease: Promise<Lease> | undefined;
  #finished = false;
  #skipReason: string | null = null;

  constructor(socket: Socket, leases: Leases) {
    this.#socket = socket;
    this.#leases = leases;
    const decoder = new FrameDecoder();
    socket.on('data', (chunk: Buffer) => {
      try {
        for (const message of decoder.push(chunk)) this.#take(message);
      } catch {
        // Not a peer of ours: FrameError. Nothing after it can be trusted.
        socket.destroy();
      }
    });
    socket.on('error', () => socket.destroy());
    this.done = new Promise((resolve) => {
      socket.once('close', () => {
        resolve(this.#over());
      });
    });
  }

  end(): void {
    this.#socket.destroy();
  }

  #take(message: unknown): void {
    const parsed = request.safeParse(message);
    if (!parsed.success) {
      this.#socket.destroy();
      return;
    }
    void this.#answer(parsed.data);
  }

  async #answer(message: Request): Promise<void> {
    try {
      this.#send({ id: message.id, result: (await this.#dispatch(message)) ?? null });
    } catch (error) {
      this.#send({ id: message.id, error: stateError(error) });
    }
  }

  #dispatch({ method, params }: Request): Promise<unknown> {
    switch (method) {
      case 'lease.acquire':
        return this.#acquire(acquireParams.parse(params));
      case 'lease.finish':
        return this.#finish(finishParams.parse(params));
      case 'lease.skip':
        this.#skipReason = skipParams.parse(params).reason;
        return Promise.resolve(null);
      default:
        if (method.startsWith('lease.')) throw new LeaseError('unknown-method', `there is no ${method}`);
        return this.#forward(method, params);
    }
  }

  async #acquire({ test, share }: z.infer<typeof acquireParams>): Promise<unknown> {
    if (this.#lease !== undefined) throw new LeaseError('leased', 'this connection has its lease already');
    this.#lease = this.#leases.grant(normaliseTestId(test), this.#closed.signal, share);
    return (await this.#lease).terms;
  }

  async #forward(method: string, params: unknown): Promise<unknown> {
    const lease = await this.#current();
    return lease.call(method, params, this.#closed.signal);
  }

  async #finish(said: z.infer<typeof finishParams>): Promise<unknown> {
    const lease = await this.#current();
    this.#finished = true;
    const { findings, evidence } = await this.#leases.settle(lease, {
      ...said,
      skipReason: this.#skipReason,
    });
    return { findings, evidence };
  }

  async #current(): Promise<Lease> {
    if (this.#lease === undefined) throw new LeaseError('no-lease', 'send lease.acquire first');
    if (this.#finished) throw new LeaseError('no-lease', 'the lease is over: lease.finish was sent');
    return this.#lease;
  }

  async #over(): Promise<void> {
    this.#closed.abort(new LeaseError('closed', 'the test process went away'));
    const lease = await this.#lease?.catch(() => undefined);
    if (lease === undefined) return;
    // A second settle of the same lease waits for the first.
    await this.#leases.settle(lease, {
      passed: false,
      timedOut: false,
      skipReason: this.#skipReason,
    });
  }

  #send(message: object): void {
    if (this.#socket.writable) this.#socket.write(encodeFrame(message));
  }
}

class LeaseError extends Error {
  override readonly name = 'LeaseError';
  readonly code: string;

  constructor(code: string, message: string) {
    super(message);
    this.code = code;
  }
}

function stateError(error: unknown): RpcError {
  if (error instanceof z.ZodError) {
    return { code: 'bad-params', message: cleanLine(error.issues[0]?.message ?? 'bad parameters') };
  }
  if (error instanceof Failure) return { code: error.code, message: cleanLine(error.message) };
  if (error instanceof Error) {
    const code = (error as { readonly code?: unknown }).code;
    return { code: typeof code === 'string' ? code : 'internal', message: cleanLine(error.message) };
  }
  return { code: 'internal', message: 'unknown error' };
}
