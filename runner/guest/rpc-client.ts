import type { Duplex } from 'node:stream';
import { z } from 'zod';
import { encodeFrame, FrameDecoder } from '#rootfs/protocol/frame.ts';
import type { RpcRequest } from '#rootfs/protocol/rpc.ts';
import { Failure } from '#runner/lib/failure.ts';
import type { CallOptions } from './guest.ts';
import { RpcFailure } from './rpc-failure.ts';

const Response = z.union([
  z.object({ id: z.int(), error: z.object({ code: z.string(), message: z.string() }) }),
  z.object({ id: z.int(), result: z.unknown() }),
]);

interface Pending {
  readonly resolve: (result: unknown) => void;
  readonly reject: (error: unknown) => void;
}

/** Requests and their answers on one byte stream; any number of them under way at a time. */
export class RpcClient {
  readonly #stream: Duplex;
  readonly #pending = new Map<number, Pending>();
  readonly #decoder = new FrameDecoder();
  #nextId = 1;
  #gone: Failure | undefined;

  /** @param ended makes the Failure for everyone who waits when the stream ends. */
  constructor(stream: Duplex, ended: () => Failure) {
    this.#stream = stream;
    stream.on('data', (chunk: Buffer) => this.#receive(chunk));
    stream.on('error', () => this.close(ended()));
    stream.on('close', () => this.close(ended()));
  }

  /**
   * @throws RpcFailure when the peer refuses, Failure when the stream has ended or ends meanwhile,
   *   E_CALL_TIMEOUT (infra) when `timeoutMs` passes; the answer is then thrown away when it comes.
   */
  async call(method: string, params: unknown, options: CallOptions = {}): Promise<unknown> {
    options.signal?.throwIfAborted();
    if (this.#gone !== undefined) throw this.#gone;
    const id = this.#nextId++;
    const answer = Promise.withResolvers<unknown>();
    this.#pending.set(id, answer);
    const abort = (): void => answer.reject(options.signal?.reason ?? new Error('aborted'));
    options.signal?.addEventListener('abort', abort, { once: true });
    const timer =
      options.timeoutMs === undefined
        ? undefined
        : setTimeout(() => answer.reject(timeout(method, options.timeoutMs ?? 0)), options.timeoutMs);
    try {
      const request: RpcRequest = { id, method, params };
      this.#stream.write(encodeFrame(request));
      return await answer.promise;
    } finally {
      clearTimeout(timer);
      options.signal?.removeEventListener('abort', abort);
      this.#pending.delete(id);
    }
  }

  /** Everyone who waits, and whoever calls later, gets `reason`; the first one counts. */
  close(reason: Failure): void {
    this.#gone ??= reason;
    for (const { reject } of this.#pending.values()) reject(this.#gone);
    this.#pending.clear();
    this.#stream.destroy();
  }

  #receive(chunk: Uint8Array): void {
    try {
      for (const message of this.#decoder.push(chunk)) this.#answer(Response.parse(message));
    } catch (cause) {
      this.close(
        new Failure('E_PROTOCOL', 'infra', 'the agent in the guest does not speak the protocol', { cause }),
      );
    }
  }

  #answer(response: z.infer<typeof Response>): void {
    const pending = this.#pending.get(response.id);
    // Nobody waits any more: the call was aborted or timed out.
    if (pending === undefined) return;
    if ('error' in response) {
      pending.reject(new RpcFailure(response.error.code, response.error.message));
    } else {
      pending.resolve(response.result);
    }
  }
}

function timeout(method: string, afterMs: number): Failure {
  return new Failure('E_CALL_TIMEOUT', 'infra', `the agent did not answer ${method} within ${afterMs} ms`);
}
