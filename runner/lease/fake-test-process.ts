import { once } from 'node:events';
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { encodeFrame, FrameDecoder } from '#rootfs/protocol/frame.ts';
import type { RpcResponse } from '#rootfs/protocol/rpc.ts';

/** The test's side of a lease, as small as it can be, for tests of the broker. */
export class FakeTestProcess implements AsyncDisposable {
  readonly socket: Socket;
  readonly #waiting = new Map<number, (response: RpcResponse | undefined) => void>();
  #next = 1;

  private constructor(socket: Socket) {
    this.socket = socket;
    const decoder = new FrameDecoder();
    socket.on('data', (chunk: Buffer) => {
      for (const message of decoder.push(chunk) as RpcResponse[]) {
        this.#waiting.get(message.id)?.(message);
        this.#waiting.delete(message.id);
      }
    });
    socket.on('error', () => undefined);
    socket.on('close', () => {
      for (const settle of this.#waiting.values()) settle(undefined);
    });
  }

  static async connect(path: string): Promise<FakeTestProcess> {
    const socket = connect(path);
    await once(socket, 'connect');
    return new FakeTestProcess(socket);
  }

  /** @returns the result, or the error as `code: message`; `closed` when the broker hung up. */
  async call(method: string, params: unknown = {}): Promise<unknown> {
    const id = this.#next++;
    const answer = new Promise<RpcResponse | undefined>((resolve) => this.#waiting.set(id, resolve));
    this.socket.write(encodeFrame({ id, method, params }));
    const response = await answer;
    if (response === undefined) return 'closed';
    return 'error' in response ? `${response.error.code}: ${response.error.message}` : response.result;
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.socket.destroy();
    return Promise.resolve();
  }
}
