import type { Readable, Writable } from 'node:stream';
import { encodeFrame, FrameDecoder, FrameError } from '../../protocol/frame.ts';
import type { RpcResponse } from '../../protocol/rpc.ts';
import { RpcRefusal } from './server.ts';

/** The asking side of the protocol over two streams. */
export class RpcPeer {
  readonly #input: Writable;
  readonly #waiting = new Map<number, PromiseWithResolvers<unknown>>();
  #nextId = 1;
  #gone: Error | undefined;

  constructor(output: Readable, input: Writable) {
    this.#input = input;
    const decoder = new FrameDecoder();
    output.on('data', (chunk: Buffer) => {
      try {
        for (const message of decoder.push(chunk)) this.#settle(message as RpcResponse);
      } catch (error) {
        this.close(error instanceof FrameError ? error : new FrameError(String(error)));
      }
    });
    // Writing to a child that has just died is reported by its exit, not here.
    input.on('error', () => undefined);
  }

  /** @throws RpcRefusal as the peer refused, or with code `child-gone`. */
  call(method: string, params: unknown): Promise<unknown> {
    if (this.#gone !== undefined) return Promise.reject(this.#gone);
    const id = this.#nextId++;
    const answer = Promise.withResolvers<unknown>();
    this.#waiting.set(id, answer);
    this.#input.write(encodeFrame({ id, method, params }));
    return answer.promise;
  }

  /** Every call that still waits, and every later one, fails with `reason`. */
  close(reason: Error): void {
    this.#gone ??= reason;
    for (const answer of this.#waiting.values()) answer.reject(this.#gone);
    this.#waiting.clear();
  }

  #settle(response: RpcResponse): void {
    const answer = this.#waiting.get(response.id);
    this.#waiting.delete(response.id);
    if ('error' in response) answer?.reject(new RpcRefusal(response.error.code, response.error.message));
    else answer?.resolve(response.result);
  }
}
