import type { Emit } from '#runner/lib/events.ts';
import { cleanLine } from '#runner/lib/clean-text.ts';
import { Failure } from '#runner/lib/failure.ts';
import type { Guest } from '#runner/guest/guest.ts';

/** A guest and how to end it together with its machine. */
export interface PooledGuest extends AsyncDisposable {
  readonly guest: Guest;
  /** Taint mask of the kernel when the guest was ready. */
  readonly taint: number;
}

export interface PoolOptions {
  /** Machines at most at the same time. */
  readonly size: number;
  /** Boots a machine, deploys the daemon and proves that it answers. `nth` counts from 1. */
  readonly start: (nth: number, signal: AbortSignal) => Promise<PooledGuest>;
  readonly emit: Emit;
  /** Ends every wait and every boot. */
  readonly signal: AbortSignal;
}

/**
 * Guests on demand. A guest that was discarded is replaced at the next `acquire`; when two machines in a row
 * do not come up, the pool is broken for good and says why to everybody.
 */
export class GuestPool implements AsyncDisposable {
  readonly #options: PoolOptions;
  readonly #broken = Promise.withResolvers<Failure>();
  readonly #idle: PooledGuest[] = [];
  readonly #living = new Set<PooledGuest>();
  /** Callers that wait for a machine, in their order. */
  readonly #waiting: (() => void)[] = [];
  #inUse = 0;
  #attempts = 0;
  #started = 0;
  #failure: Failure | undefined;

  constructor(options: PoolOptions) {
    this.#options = options;
  }

  /** Never rejects. Resolves when no machine can be had any more. */
  get broken(): Promise<Failure> {
    return this.#broken.promise;
  }

  /** @throws Failure of the boot when the pool is broken; the reason of `signal` when that fires. */
  async acquire(signal: AbortSignal): Promise<PooledGuest> {
    const either = AbortSignal.any([signal, this.#options.signal]);
    await this.#slot(either);
    try {
      return this.#idle.pop() ?? (await this.#startTwice(either));
    } catch (error) {
      this.#free();
      throw error;
    }
  }

  /** Gives a healthy guest back. */
  release(pooled: PooledGuest): void {
    if (this.#living.has(pooled)) this.#idle.push(pooled);
    this.#free();
  }

  /** Ends a guest that must not be used again. */
  async discard(pooled: PooledGuest): Promise<void> {
    this.#living.delete(pooled);
    try {
      await pooled[Symbol.asyncDispose]();
    } finally {
      this.#free();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const all = [...this.#living];
    this.#living.clear();
    this.#idle.length = 0;
    await Promise.all(all.map((pooled) => pooled[Symbol.asyncDispose]()));
  }

  async #slot(signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    if (this.#inUse < this.#options.size) {
      this.#inUse += 1;
      return;
    }
    const turn = Promise.withResolvers<undefined>();
    const take = (): void => {
      turn.resolve(undefined);
    };
    const leave = (): void => {
      const at = this.#waiting.indexOf(take);
      if (at < 0) return;
      this.#waiting.splice(at, 1);
      turn.reject(signal.reason as Error);
    };
    this.#waiting.push(take);
    signal.addEventListener('abort', leave, { once: true });
    try {
      await turn.promise;
    } finally {
      signal.removeEventListener('abort', leave);
    }
  }

  /** A slot that nobody waits for becomes free; otherwise it goes to the first who waits. */
  #free(): void {
    const next = this.#waiting.shift();
    if (next === undefined) this.#inUse -= 1;
    else next();
  }

  async #startTwice(signal: AbortSignal): Promise<PooledGuest> {
    try {
      return await this.#start(signal);
    } catch (error) {
      if (!(error instanceof Failure) || !this.#worthAnother(error)) throw this.#give(error, signal);
      this.#options.emit({ type: 'note', text: `${error.code}: ${error.message}; trying once more` });
    }
    try {
      return await this.#start(signal);
    } catch (error) {
      throw this.#give(error, signal);
    }
  }

  async #start(signal: AbortSignal): Promise<PooledGuest> {
    if (this.#failure !== undefined) throw this.#failure;
    this.#attempts += 1;
    const pooled = await this.#options.start(this.#attempts, signal);
    this.#started += 1;
    this.#living.add(pooled);
    void pooled.guest.machine.lost.then((failure) => this.#lost(pooled, failure));
    return pooled;
  }

  /** A machine that ends while nobody has it: taken away, so that the next test gets a living one. */
  async #lost(pooled: PooledGuest, failure: Failure): Promise<void> {
    const at = this.#idle.indexOf(pooled);
    if (at < 0) return;
    this.#idle.splice(at, 1);
    this.#living.delete(pooled);
    const machine = pooled.guest.machine.id;
    const title = cleanLine(failure.message);
    const { emit } = this.#options;
    emit({ type: 'machine-lost', machine, failure });
    if (failure.blame === 'kernel') {
      const { code: fingerprint, evidence } = failure;
      emit({ type: 'kernel-fault', machine, kind: 'panic', title, fingerprint, test: null, evidence });
    }
    await pooled[Symbol.asyncDispose]();
    emit({ type: 'machine-stopped', machine });
  }

  /** A kernel that has never booted will not boot at the second attempt either. */
  #worthAnother(failure: Failure): boolean {
    if (failure === this.#failure) return false;
    return failure.blame === 'infra' || (failure.blame === 'kernel' && this.#started > 0);
  }

  #tellNoBoot({ message, code, evidence }: Failure): void {
    const machine = `machine-${this.#attempts}`;
    const title = cleanLine(message);
    this.#options.emit({
      type: 'kernel-fault',
      machine,
      kind: 'no-boot',
      title,
      fingerprint: code,
      test: null,
      evidence,
    });
  }

  #give(error: unknown, signal: AbortSignal): unknown {
    if (error instanceof Failure && !signal.aborted) {
      if (this.#failure === undefined && error.blame === 'kernel') this.#tellNoBoot(error);
      this.#failure ??= error;
      this.#broken.resolve(error);
    }
    return error;
  }
}
