import { randomBytes } from 'node:crypto';
import { Failure } from '#runner/lib/failure.ts';
import type { AgentPort } from '#runner/machine/agent-port.ts';
import type { Machine } from '#runner/machine/machine.ts';
import { explainLoss } from './explain-loss.ts';
import type { Guest } from './guest.ts';
import { greetAgent } from './hello.ts';
import { RpcClient } from './rpc-client.ts';

export interface AttachContext {
  readonly signal: AbortSignal;
  /** How long the agent may take to answer. Milliseconds, already scaled. */
  readonly answerMs: number;
}

/** How long the news of a lost machine may take after its port broke. Milliseconds. */
const NEWS_MS = 3_000;
/** As many bytes as the kernel's generator has of state. */
const ENTROPY_BYTES = 32;

/**
 * The guest of a machine whose agent already listens on its port.
 *
 * @param restored the machine is a copy: its clock and its random numbers are made its own.
 * @throws Failure of the machine when it is lost meanwhile; E_PROTOCOL, E_CALL_TIMEOUT, E_AGENT_GONE (infra).
 */
export async function attachAgent(
  machine: Machine,
  port: AgentPort,
  { signal, answerMs, restored }: AttachContext & { readonly restored: boolean },
): Promise<Guest> {
  const startedAt = performance.now();
  const orLost = <T>(work: Promise<T>): Promise<T> => explainLoss(machine, work, NEWS_MS);
  const rpc = new RpcClient(await orLost(port.stream), portClosed);
  try {
    const options = { signal, timeoutMs: answerMs };
    if (restored) {
      const entropy = new Uint8Array(randomBytes(ENTROPY_BYTES));
      await orLost(rpc.call('restored', { machine: machine.id, epochMs: Date.now(), entropy }, options));
    }
    const slowdown = await orLost(greetAgent(rpc, options));
    return {
      machine,
      deployMs: Math.round(performance.now() - startedAt),
      slowdown,
      call: async (method, params, callOptions) => orLost(rpc.call(method, params, callOptions)),
      [Symbol.asyncDispose]: () => {
        rpc.close(givenBack());
        return Promise.resolve();
      },
    };
  } catch (error) {
    rpc.close(givenBack());
    throw error;
  }
}

function portClosed(): Failure {
  return new Failure('E_AGENT_GONE', 'infra', 'the agent in the guest has ended', {
    hint: 'if the guest ran out of memory, the console says so',
  });
}

function givenBack(): Failure {
  return new Failure('E_AGENT_GONE', 'infra', 'the guest has been given back');
}
