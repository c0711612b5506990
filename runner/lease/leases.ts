import type { Emit } from '#runner/lib/events.ts';
import { Failure } from '#runner/lib/failure.ts';
import type { LeaseOutcome } from '#runner/verdict/judge-test.ts';
import type { KernelFault } from '#runner/verdict/kernel-log.ts';
import { cleanLine } from '#runner/lib/clean-text.ts';
import type { FileTurns } from './file-turns.ts';
import type { AcquireResult, MachineShare } from './messages.ts';
import type { GuestPool, PooledGuest } from './pool.ts';
import { settle } from './settle.ts';

export interface LeasesOptions {
  readonly pool: GuestPool;
  /** Default: whoever asks first. */
  readonly turns?: FileTurns | undefined;
  readonly out: string;
  readonly emit: Emit;
  /** The run is over: guests are given up instead of cleaned. */
  readonly signal: AbortSignal;
  /**
   * Without lockdep a test that asks to be alone gets a machine as all others do: what others have done there is of
   * no matter then. Default: the kernel may have it.
   */
  readonly lockdep?: boolean | undefined;
  /** What the tests are told of the kernel, from its profile. */
  readonly interface: Pick<AcquireResult, 'abi' | 'features'>;
  /** Write evidence of tests that passed, too. */
  readonly keepEvidence?: boolean | undefined;
  /** The memory of a guest that hangs is evidence, too. */
  readonly dumpMemory?: boolean | undefined;
  /** A test got its machine. */
  readonly onGranted: (test: string, machine: string) => void;
  /** A test's machine is free again, or gone. */
  readonly onSettled: (test: string, outcome: LeaseOutcome) => void;
  /** Why a complaint of the kernel is nothing against the test, if it is known. */
  readonly excuse?: ((fault: KernelFault) => string | undefined) | undefined;
  /** How long a guest may take to be cleaned, before its slowdown. Milliseconds. */
  readonly resetDeadlineMs?: number | undefined;
}

/** The guest as one test has it. */
export interface Lease {
  readonly test: string;
  readonly terms: AcquireResult;
  /** One request to the agent. @throws the agent's error, or one with code `machine-lost`. */
  call(method: string, params: unknown, signal: AbortSignal): Promise<unknown>;
}

/** What the test process says at its end. */
export interface Said {
  readonly passed: boolean;
  /** It gave up waiting for its own steps. */
  readonly timedOut: boolean;
  readonly skipReason: string | null;
}

interface Open {
  readonly pooled: PooledGuest;
  readonly consoleFrom: number;
  readonly startedAt: number;
}

const RESET_DEADLINE_MS = 10_000;

/** Who has which guest. One lease per guest; others wait in the pool. */
export class Leases {
  readonly #options: LeasesOptions;
  readonly #open = new Map<Lease, Open>();
  readonly #settling = new Map<Lease, Promise<LeaseOutcome>>();

  constructor(options: LeasesOptions) {
    this.#options = options;
  }

  /** Waits for a machine. `signal`: the test process went away. */
  async grant(test: string, signal: AbortSignal, share: MachineShare = 'shared'): Promise<Lease> {
    const alike = share === 'alone' && this.#options.lockdep === false;
    const pooled = await this.#acquire(test, signal, alike ? 'shared' : share);
    const { guest } = pooled;
    const { machine } = guest;
    await guest.call('kernel.mark', { text: cleanLine(test, 200) }).catch(() => undefined);
    const lease: Lease = {
      test,
      terms: {
        machine: machine.id,
        profile: machine.kernel.profile,
        ...this.#options.interface,
        release: machine.kernel.release,
        accelerator: machine.accelerator,
        slowdown: guest.slowdown,
      },
      call: (method, params, closed) => callGuest(pooled, { method, params, signal: closed }),
    };
    const consoleFrom = await machine.consoleOffset().catch(() => 0);
    this.#open.set(lease, { pooled, consoleFrom, startedAt: performance.now() });
    this.#options.onGranted(test, machine.id);
    return lease;
  }

  async #acquire(test: string, signal: AbortSignal, share: MachineShare): Promise<PooledGuest> {
    const { pool, turns, emit } = this.#options;
    emit({ type: 'lease-requested', test });
    try {
      await turns?.take(fileOf(test), AbortSignal.any([signal, this.#options.signal]));
      return await pool.acquire(signal, { file: fileOf(test), share });
    } catch (error) {
      turns?.end(fileOf(test));
      emit({ type: 'lease-ended', test, machine: null });
      throw error;
    }
  }

  /** Cleans the guest, says what was found and gives the guest back or ends it. Once per lease. */
  settle(lease: Lease, said: Said): Promise<LeaseOutcome> {
    const settling = this.#settling.get(lease) ?? this.#settle(lease, said);
    this.#settling.set(lease, settling);
    return settling;
  }

  async #settle(lease: Lease, said: Said): Promise<LeaseOutcome> {
    const open = this.#open.get(lease);
    if (open === undefined) throw new TypeError('settled a lease that was never granted');
    const { out, emit, pool } = this.#options;
    const { guest } = open.pooled;
    const { outcome, dirty } = await settle({
      guest,
      test: lease.test,
      out,
      emit,
      consoleFrom: open.consoleFrom,
      taintBefore: open.pooled.taint,
      startedAt: open.startedAt,
      resetDeadlineMs: this.#options.resetDeadlineMs ?? RESET_DEADLINE_MS,
      signal: this.#options.signal,
      excuse: this.#options.excuse,
      keepEvidence: this.#options.keepEvidence ?? false,
      dumpMemory: this.#options.dumpMemory ?? false,
      ...said,
    });
    this.#open.delete(lease);
    const machine = guest.machine.id;
    emit({ type: 'lease-ended', test: lease.test, machine });
    if (dirty) {
      if (outcome.lost !== null) emit({ type: 'machine-lost', machine, failure: outcome.lost });
      pool.discard(open.pooled);
    } else {
      pool.release(open.pooled, { failed: !said.passed });
    }
    this.#options.onSettled(lease.test, outcome);
    return outcome;
  }
}

/** The end of the machine ends every request to it, with one word for the test. */
async function callGuest(
  { guest }: PooledGuest,
  request: { readonly method: string; readonly params: unknown; readonly signal: AbortSignal },
): Promise<unknown> {
  const call = guest.call(request.method, request.params, { signal: request.signal });
  call.catch(() => undefined);
  const answer = await Promise.race([call, guest.machine.lost]);
  if (answer instanceof Failure) throw machineLost(answer);
  return answer;
}

function machineLost(failure: Failure): Error {
  return Object.assign(new Error(failure.message, { cause: failure }), { code: 'machine-lost' });
}

/** The part of a test's id before its title: `area/file`. */
function fileOf(test: string): string {
  const end = test.indexOf(': ');
  return end < 0 ? test : test.slice(0, end);
}
