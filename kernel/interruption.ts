import { Failure } from '#runner/lib/failure.ts';

/** As `signal.throwIfAborted()`, but what is thrown is always a Failure: the signal's own reason when it is one. */
export function throwIfInterrupted(signal: AbortSignal): void {
  if (!signal.aborted) return;
  if (signal.reason instanceof Failure) throw signal.reason;
  throw new Failure('E_INTERRUPTED', 'interrupted', 'interrupted', { cause: signal.reason });
}
