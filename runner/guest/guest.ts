import type { BootedMachine, Machine } from '#runner/machine/machine.ts';

export interface CallOptions {
  readonly signal?: AbortSignal | undefined;
  /** Already scaled by the machine's slowdown. */
  readonly timeoutMs?: number | undefined;
}

/** A machine on which the daemon's agent answers. Disposing closes the channel, not the machine. */
export interface Guest extends AsyncDisposable {
  readonly machine: Machine;
  /** Milliseconds from the first SSH byte until the agent answered `hello`. */
  readonly deployMs: number;
  /** How much slower than a KVM guest this one is, measured in the agent's `hello`. At least 1. */
  readonly slowdown: number;
  /**
   * One request to the agent.
   * @throws RpcFailure when the agent refuses, Failure when the machine or the channel is lost meanwhile.
   */
  call(method: string, params: unknown, options?: CallOptions): Promise<unknown>;
}

/** A guest whose daemon was deployed over SSH, and which still has that connection. */
export interface DeployedGuest extends Guest {
  readonly machine: BootedMachine;
  /** A program on the guest over SSH, independent of the agent: for `fusegate shell` and forensics. */
  ssh(
    command: string,
    options?: CallOptions,
  ): Promise<{ readonly code: number; readonly stdout: string; readonly stderr: string }>;
}
