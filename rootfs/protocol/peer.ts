import { encodeFrame, FrameDecoder } from './frame.ts';
import type { RpcResponse } from './rpc.ts';

/** The other side answered, and the answer is no. `code`: an errno name or a condition of the protocol. */
export class RpcRefusal extends Error {
  override readonly name = 'RpcRefusal';
  readonly code: string;

  constructor(code: string, message: string) {
    super(message);
    this.code = code;
  }
}

/** The asking side of the protocol, whatever the bytes travel on. Many requests may be on the way at once. */
export class RpcPeer {
  readonly #send: (frame: Uint8Array) => void;
  readonly #decoder = new FrameDecoder();
  readonly #waiting = new Map<number, PromiseWithResolvers<unknown>>();
  readonly #step: 1 | -1;
  #lastId = 0;
  #closed: Error | undefined;

  /** @param step -1: ids count down from -1, for a line on which somebody else's requests have the others. */
  constructor(send: (frame: Uint8Array) => void, step: 1 | -1 = 1) {
    this.#send = send;
    this.#step = step;
  }

  /** Bytes that have come from the other side. */
  receive(chunk: Uint8Array): void {
    try {
      for (const message of this.#decoder.push(chunk)) this.settle(message as RpcResponse);
    } catch (error) {
      this.close(error instanceof Error ? error : new Error(String(error)));
    }
  }

  /** Calls without an answer yet. */
  get pending(): number {
    return this.#waiting.size;
  }

  /** @throws RpcRefusal as the other side refused, or the reason of `close`. */
  call(method: string, params: unknown): Promise<unknown> {
    if (this.#closed !== undefined) return Promise.reject(this.#closed);
    this.#lastId += this.#step;
    const id = this.#lastId;
    const answer = Promise.withResolvers<unknown>();
    this.#waiting.set(id, answer);
    this.#send(encodeFrame({ id, method, params }));
    return answer.promise;
  }

  /** Every call that still waits, and every later one, fails with `reason`. */
  close(reason: Error): void {
    this.#closed ??= reason;
    for (const answer of this.#waiting.values()) answer.reject(this.#closed);
    this.#waiting.clear();
  }

  /** An answer that has come. */
  settle(response: RpcResponse): void {
    const answer = this.#waiting.get(response.id);
    this.#waiting.delete(response.id);
    if ('error' in response) answer?.reject(new RpcRefusal(response.error.code, response.error.message));
    else answer?.resolve(response.result);
  }
}
