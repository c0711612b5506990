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
  /** A machine with a daemon that answers, booted or restored. `nth` counts from 1. */
  readonly start: (nth: number, signal: AbortSignal) => Promise<PooledGuest>;
  /** Whether a new machine is cheap enough for each test file to have one of its own. Default: no. */
  readonly onePerFile?: (() => boolean) | undefined;
  /** A last look at a healthy machine before it is stopped, and the test file that had it last. */
  readonly lastLook?: ((guest: Guest, file: string) => Promise<void>) | undefined;
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
  /** Test file that each machine has served; none: it is as it was started. */
  readonly #servedBy = new Map<PooledGuest, string>();
  /** Machines that are being stopped while tests go on. */
  readonly #ending = new Set<Promise<void>>();
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

  /**
   * @param file the test file that the machine is for; none: nothing will be done to it.
   * @throws Failure of the boot when the pool is broken; the reason of `signal` when that fires.
   */
  async acquire(signal: AbortSignal, file?: string): Promise<PooledGuest> {
    const either = AbortSignal.any([signal, this.#options.signal]);
    await this.#slot(either);
    try {
      const idle = this.#takeIdle(file);
      // A last look takes a processor for a while: machines would pile up.
      if (this.#options.lastLook !== undefined) await Promise.all(this.#ending);
      const pooled = idle ?? (await this.#startTwice(either));
      if (file !== undefined) this.#servedBy.set(pooled, file);
      return pooled;
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
    this.#forget(pooled);
    try {
      await pooled[Symbol.asyncDispose]();
    } finally {
      this.#free();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const healthy = this.#idle.splice(0);
    await Promise.all(healthy.map((pooled) => this.#look(pooled)));
    const all = [...this.#living];
    this.#living.clear();
    await Promise.all([...all.map((pooled) => pooled[Symbol.asyncDispose]()), ...this.#ending]);
  }

  /** One that this file has had already, else one that none has had, else any: unless a new one is better. */
  #takeIdle(file: string | undefined): PooledGuest | undefined {
    const served = (pooled: PooledGuest): string | undefined => this.#servedBy.get(pooled);
    const found =
      this.#idle.find((pooled) => served(pooled) === file) ??
      this.#idle.find((pooled) => served(pooled) === undefined) ??
      this.#idle.at(-1);
    if (found === undefined) return undefined;
    this.#idle.splice(this.#idle.indexOf(found), 1);
    const by = served(found);
    if (by === undefined || by === file || this.#options.onePerFile?.() !== true) return found;
    this.#retire(found);
    return undefined;
  }

  /** Stops a machine that nobody has, while the caller goes on. */
  #retire(pooled: PooledGuest): void {
    const end = this.#look(pooled)
      .then(() => this.#stop(pooled))
      .finally(() => this.#ending.delete(end));
    this.#ending.add(end);
  }

  async #look(pooled: PooledGuest): Promise<void> {
    const file = this.#servedBy.get(pooled);
    if (file !== undefined && !this.#options.signal.aborted)
      await this.#options.lastLook?.(pooled.guest, file);
  }

  async #stop(pooled: PooledGuest): Promise<void> {
    this.#forget(pooled);
    await pooled[Symbol.asyncDispose]();
    this.#options.emit({ type: 'machine-stopped', machine: pooled.guest.machine.id });
  }

  #forget(pooled: PooledGuest): void {
    this.#living.delete(pooled);
    this.#servedBy.delete(pooled);
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
    this.#forget(pooled);
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
