import { once } from 'node:events';
import { createConnection, type Socket } from 'node:net';
import type { AgentCalls, AgentMethod } from '#rootfs/protocol/calls.ts';
import { RpcPeer, RpcRefusal } from '#rootfs/protocol/peer.ts';
import { LEASE_SOCKET_ENV } from '#runner/lease/messages.ts';
import type { AcquireResult, FinishResult, MachineShare } from '#runner/lease/messages.ts';

/** The line to the runner, and through it to the agent in the guest. Its end, however it comes, ends the lease. */
export class Lease {
  readonly terms: AcquireResult;
  readonly #socket: Socket;
  readonly #peer: RpcPeer;

  private constructor(socket: Socket, peer: RpcPeer, terms: AcquireResult) {
    this.#socket = socket;
    this.#peer = peer;
    this.terms = terms;
  }

  /** Waits until a machine is free. */
  static async acquire(test: string, share: MachineShare = 'shared'): Promise<Lease> {
    const path = process.env[LEASE_SOCKET_ENV];
    if (path === undefined) {
      throw new Error(`${LEASE_SOCKET_ENV} is not set: start suites with \`npx fusegate run --suite AREA\``);
    }
    const socket = createConnection(path);
    await once(socket, 'connect');
    const peer = new RpcPeer((frame) => socket.write(frame));
    socket.on('data', (chunk: Buffer) => peer.receive(chunk));
    socket.on('error', (error) => peer.close(error));
    socket.on('close', () => peer.close(new RpcRefusal('machine-lost', 'the runner has ended the lease')));
    return new Lease(socket, peer, (await peer.call('lease.acquire', { test, share })) as AcquireResult);
  }

  /** One request to the agent. @throws RpcRefusal */
  async call<M extends AgentMethod>(
    method: M,
    params: AgentCalls[M]['params'],
  ): Promise<AgentCalls[M]['result']> {
    return await this.#peer.call(method, params);
  }

  /** A duration that is right on a fast machine, made right for this one. Milliseconds. */
  scaled(milliseconds: number): number {
    return Math.ceil(milliseconds * this.terms.slowdown);
  }

  async skip(reason: string): Promise<void> {
    await this.#peer.call('lease.skip', { reason });
  }

  /** Has the guest cleaned and checked, and gives it back. */
  async finish(said: { readonly passed: boolean; readonly timedOut: boolean }): Promise<FinishResult> {
    try {
      return (await this.#peer.call('lease.finish', said)) as FinishResult;
    } finally {
      this.#socket.destroy();
    }
  }
}
