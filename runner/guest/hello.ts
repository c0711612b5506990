import { z } from 'zod';
import { Failure } from '#runner/lib/failure.ts';
import type { CallOptions } from './guest.ts';
import type { RpcClient } from './rpc-client.ts';

/**
 * The agent's calibration loop where nothing needs more time than planned: a processor itself takes 0.2, QEMU on
 * an idle machine 1.6. Milliseconds.
 */
const REFERENCE_MS = 0.75;

const Hello = z.looseObject({
  protocol: z.literal(1),
  kernelRelease: z.string(),
  node: z.string(),
  calibrationMs: z.number().nonnegative(),
});

/**
 * The first word with an agent.
 * @returns how much slower than a KVM guest this one is. At least 1.
 * @throws Failure E_PROTOCOL (infra), or why the agent does not answer.
 */
export async function greetAgent(rpc: RpcClient, options: CallOptions): Promise<number> {
  const hello = Hello.safeParse(await rpc.call('hello', {}, options));
  if (hello.success) return Math.max(1, hello.data.calibrationMs / REFERENCE_MS);
  throw new Failure('E_PROTOCOL', 'infra', 'the agent in the guest is of another version', {
    cause: hello.error,
  });
}
