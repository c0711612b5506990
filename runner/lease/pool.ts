import type { Emit } from '#runner/lib/events.ts';
import { cleanLine } from '#runner/lib/clean-text.ts';
import { Failure } from '#runner/lib/failure.ts';
import { lostKind } from '#runner/verdict/lost-kind.ts';
import type { Guest } from '#runner/guest/guest.ts';
import type { MachineShare } from './messages.ts';
import { WaitingLine } from './waiting-line.ts';

/** A guest and how to end it together with its machine. */
export interface PooledGuest extends AsyncDisposable {
  readonly guest: Guest;
  /** Taint mask of the kernel when the guest was ready. */
  readonly taint: number;
}

/** What a test may ask of its machine. */
export interface MachineWish {
  /** The test file that the machine is for; none: nothing will be done to it. */
  readonly file?: string | undefined;
  /** Default: shared. */
  readonly share?: MachineShare | undefined;
}

export interface PoolOptions {
  /** Machines at most that tests have at the same time. One more may be ready for the next test. */
  readonly size: number;
  /** A machine with a daemon that answers, booted or restored. `nth` counts from 1. */
  readonly start: (nth: number, signal: AbortSignal, how: { readonly cold: boolean }) => Promise<PooledGuest>;
  /**
   * After how many test files a machine gives way to a new one; where that is ever, new ones are cheap, and one is
   * started ahead. Default: never.
   */
  readonly filesPerMachine?: (() => number) | undefined;
  /** How many test files are going to ask, all in all: as long as some are to come, a machine waits for them. */
  readonly files?: number | undefined;
  /** Whether the host has memory for one more machine. Default: yes. */
  readonly hasRoom?: (() => boolean) | undefined;
  /** A last look at a healthy machine before it is stopped, and the test file that had it last. */
  readonly lastLook?: ((guest: Guest, file: string) => Promise<void>) | undefined;
  readonly emit: Emit;
  /** Ends every wait and every boot. */
  readonly signal: AbortSignal;
}

/** What a machine has done. */
interface Service {
  /** The test file that had it last. */
  readonly file: string;
  /** How many files have had it. */
  readonly files: number;
}

/** A machine on its way that nobody has asked for yet. */
interface Ahead {
  /** Never rejects. */
  readonly done: Promise<void>;
  claimed: boolean;
}

/**
 * Guests on demand, and where machines are cheap one ahead of the demand: it is started when a file takes its
 * first machine and another file is to come, or when a machine is lost or thrown away. When two machines in a
 * row do not come up, the pool is broken for good and says why to everybody.
 */
export class GuestPool implements AsyncDisposable {
  readonly #options: PoolOptions;
  readonly #broken = Promise.withResolvers<Failure>();
  readonly #idle: PooledGuest[] = [];
  /** None: the machine is as it was started. */
  readonly #services = new Map<PooledGuest, Service>();
  /** Those that no further file gets. */
  readonly #lastFile = new Set<PooledGuest>();
  /** Those that serve one test alone. */
  readonly #alone = new Set<PooledGuest>();
  readonly #closing = new AbortController();
  #ahead: Ahead | undefined;
  /** Files that have got a machine of their own so far. */
  readonly #begun = new Set<string>();
  /** Machines that are being stopped while tests go on. */
  readonly #ending = new Set<Promise<void>>();
  readonly #living = new Set<PooledGuest>();
  /** Callers that wait for a machine, in their order. */
  readonly #line = new WaitingLine<undefined>();
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
  async acquire(signal: AbortSignal, { file, share = 'shared' }: MachineWish = {}): Promise<PooledGuest> {
    const either = AbortSignal.any([signal, this.#options.signal]);
    await this.#slot(either);
    try {
      const cold = share === 'cold';
      const idle = cold ? undefined : this.#takeIdle(file, share);
      // A last look takes a processor for a while: machines would pile up.
      if (this.#options.lastLook !== undefined) await Promise.all(this.#ending);
      const pooled = idle ?? (await this.#newOne({ file, share }, either));
      if (share !== 'shared') this.#alone.add(pooled);
      if (!cold && file !== undefined) this.#serve(pooled, file, share);
      return pooled;
    } catch (error) {
      this.#free();
      throw error;
    }
  }

  /** Starts a second machine before anybody asks, where a second one can serve at the same time and is cheap. */
  warmUp(): void {
    const { size, files = 0 } = this.#options;
    if (size > 1 && files > 1 && this.#areCheap && this.#living.size < 2) this.#startOneAhead();
  }

  /** Gives a healthy guest back. Where machines are cheap, one on which a test failed is for no other file. */
  release(pooled: PooledGuest, { failed = false } = {}): void {
    if (failed) this.#lastFile.add(pooled);
    if (this.#alone.has(pooled)) this.#retire(pooled);
    else if (this.#living.has(pooled)) this.#idle.push(pooled);
    this.#free();
  }

  /** Ends a guest that must not be used again; the caller need not wait until it is gone. */
  discard(pooled: PooledGuest): void {
    if (this.#areCheap) this.#startAhead();
    this.#retire(pooled, () => Promise.resolve());
    this.#free();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort(new Failure('E_MACHINE_STOPPED', 'infra', 'the machines are no longer needed'));
    await this.#ahead?.done;
    const healthy = this.#idle.splice(0);
    await Promise.all(healthy.map((pooled) => this.#look(pooled)));
    const all = [...this.#living];
    this.#living.clear();
    await Promise.all([...all.map((pooled) => this.#stop(pooled)), ...this.#ending]);
  }

  get #filesPerMachine(): number {
    return this.#options.filesPerMachine?.() ?? Infinity;
  }

  get #areCheap(): boolean {
    return this.#filesPerMachine < Infinity;
  }

  /** No test has had it. */
  #isFresh(pooled: PooledGuest): boolean {
    return !this.#services.has(pooled);
  }

  /** Whether a file that has not had this machine may get it. */
  #servesAnother(pooled: PooledGuest): boolean {
    if (!this.#areCheap) return true;
    const { files = 0 } = this.#services.get(pooled) ?? {};
    return files < this.#filesPerMachine && !this.#lastFile.has(pooled);
  }

  /**
   * One that this file had last, else one that has served others and may go on, else one that none has had. Those
   * that may not go on end when somebody else would have got them.
   */
  #takeIdle(file: string | undefined, share: MachineShare = 'shared'): PooledGuest | undefined {
    const fresh = this.#idle.find((pooled) => this.#isFresh(pooled));
    const own = this.#idle.find((pooled) => this.#services.get(pooled)?.file === file);
    // The longest idle: the others' files may be between two tests.
    const used = this.#idle.find((pooled) => !this.#isFresh(pooled) && this.#servesAnother(pooled));
    const found = share === 'shared' ? (own ?? used ?? fresh ?? this.#idle.at(-1)) : fresh;
    if (found === undefined) return undefined;
    this.#idle.splice(this.#idle.indexOf(found), 1);
    if (found !== own && !this.#servesAnother(found)) {
      this.#retire(found);
      return undefined;
    }
    if (this.#isFresh(found)) this.#retireOverdue();
    return found;
  }

  /** A fresh machine takes the place of one that another file has had: of those the longest idle goes. */
  #retireOverdue(): void {
    const served = this.#idle.filter((pooled) => !this.#isFresh(pooled));
    for (const pooled of served.slice(0, Math.max(0, served.length + this.#inUse - this.#options.size))) {
      this.#idle.splice(this.#idle.indexOf(pooled), 1);
      this.#retire(pooled);
    }
  }

  async #newOne({ file, share }: MachineWish, signal: AbortSignal): Promise<PooledGuest> {
    if (share === 'cold') return this.#startTwice(signal, { cold: true });
    return (await this.#takeAhead({ file, share }, signal)) ?? (await this.#startTwice(signal));
  }

  /**
   * A machine's last file, or a single test for which it is there: where another file or test is to come, its
   * machine can be on its way meanwhile.
   */
  #serve(pooled: PooledGuest, file: string, share: MachineShare): void {
    const before = this.#services.get(pooled);
    if (before?.file === file) return;
    this.#services.set(pooled, { file, files: (before?.files ?? 0) + 1 });
    this.#begun.add(file);
    const { files = 0 } = this.#options;
    const another = share === 'alone' || this.#begun.size < files;
    if (another && this.#areCheap && !this.#servesAnother(pooled)) this.#startAhead();
  }

  /** Unless there is one that no test has had. */
  #startAhead(): void {
    if (!this.#idle.some((pooled) => this.#isFresh(pooled))) this.#startOneAhead();
  }

  #startOneAhead(): void {
    if (this.#ahead !== undefined || this.#failure !== undefined || !this.#hasRoom()) return;
    const signal = AbortSignal.any([this.#options.signal, this.#closing.signal]);
    if (signal.aborted) return;
    const started = this.#start(signal).then(
      (pooled) => void this.#idle.push(pooled),
      (error: unknown) => {
        if (!signal.aborted) this.#tellTryingAgain(error);
      },
    );
    const ahead: Ahead = {
      claimed: false,
      done: started.finally(() => {
        this.#ahead = undefined;
      }),
    };
    this.#ahead = ahead;
  }

  /** The one on its way, for the first who comes for it. */
  async #takeAhead({ file, share }: MachineWish, signal: AbortSignal): Promise<PooledGuest | undefined> {
    const ahead = this.#ahead;
    if (ahead === undefined || ahead.claimed) return undefined;
    ahead.claimed = true;
    const aborted = Promise.withResolvers<never>();
    const abort = (): void => aborted.reject(signal.reason as Error);
    signal.addEventListener('abort', abort, { once: true });
    try {
      await Promise.race([ahead.done, aborted.promise]);
    } finally {
      signal.removeEventListener('abort', abort);
    }
    return this.#takeIdle(file, share);
  }

  #hasRoom(): boolean {
    return this.#options.hasRoom?.() ?? true;
  }

  /** Stops a machine that nobody has, while the caller goes on. */
  #retire(pooled: PooledGuest, look = (): Promise<void> => this.#look(pooled)): void {
    const end = look()
      .then(() => this.#stop(pooled))
      .finally(() => this.#ending.delete(end));
    this.#ending.add(end);
  }

  async #look(pooled: PooledGuest): Promise<void> {
    const { file } = this.#services.get(pooled) ?? {};
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
    this.#services.delete(pooled);
    this.#lastFile.delete(pooled);
    this.#alone.delete(pooled);
  }

  /** A further machine waits for memory as it does for its turn, unless nobody would ever free any. */
  #admits(): boolean {
    if (this.#inUse >= this.#options.size) return false;
    return this.#inUse === 0 || this.#idle.length > 0 || this.#ahead !== undefined || this.#hasRoom();
  }

  async #slot(signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    if (this.#admits()) {
      this.#inUse += 1;
      return;
    }
    await this.#line.wait(undefined, signal);
  }

  /** A slot that nobody waits for becomes free; otherwise it goes to the first who waits. */
  #free(): void {
    if (!this.#line.callFirst()) this.#inUse -= 1;
  }

  #tellTryingAgain(error: unknown): void {
    if (!(error instanceof Failure)) return;
    this.#options.emit({ type: 'note', text: `${error.code}: ${error.message}; trying once more` });
  }

  async #startTwice(signal: AbortSignal, how = { cold: false }): Promise<PooledGuest> {
    try {
      return await this.#start(signal, how);
    } catch (error) {
      if (!(error instanceof Failure) || !this.#worthAnother(error)) throw this.#give(error, signal);
      this.#tellTryingAgain(error);
    }
    try {
      return await this.#start(signal, how);
    } catch (error) {
      throw this.#give(error, signal);
    }
  }

  async #start(signal: AbortSignal, how = { cold: false }): Promise<PooledGuest> {
    if (this.#failure !== undefined) throw this.#failure;
    this.#attempts += 1;
    const pooled = await this.#options.start(this.#attempts, signal, how);
    this.#started += 1;
    this.#living.add(pooled);
    void pooled.guest.machine.lost.then((failure) => this.#lost(pooled, failure));
    return pooled;
  }

  /**
   * The end of a machine that somebody has is theirs to tell; the next one can be on its way by then. One that
   * ends while nobody has it is taken away, so that the next test gets a living one.
   */
  async #lost(pooled: PooledGuest, failure: Failure): Promise<void> {
    const at = this.#idle.indexOf(pooled);
    if (at < 0) {
      if (this.#living.has(pooled) && this.#areCheap) this.#startAhead();
      return;
    }
    this.#idle.splice(at, 1);
    this.#forget(pooled);
    const machine = pooled.guest.machine.id;
    const title = cleanLine(failure.message);
    const { emit } = this.#options;
    emit({ type: 'machine-lost', machine, failure });
    if (failure.blame === 'kernel') {
      const { code: fingerprint, evidence } = failure;
      emit({
        type: 'kernel-fault',
        machine,
        kind: lostKind(failure),
        title,
        fingerprint,
        test: null,
        evidence,
      });
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
