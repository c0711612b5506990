import { diskFull } from '#kernel/cache/disk-full.ts';
import { Failure } from '#runner/lib/failure.ts';

/**
 * What a run ended with, as a Failure. An interrupt is what counts, whatever broke because of it; an error that
 * a tear-down added to an earlier one does not hide that; a full disk can show itself anywhere.
 */
export async function asFailure(thrown: unknown, signal: AbortSignal): Promise<Failure> {
  const reason: unknown = signal.aborted ? signal.reason : undefined;
  if (reason instanceof Failure) return reason;
  const errors = withCauses(thrown);
  const failure = errors.find((error) => error instanceof Failure);
  if (failure !== undefined) return failure;
  const full = errors.find(isDiskFull);
  // A copy names first where it reads from.
  if (full !== undefined) return diskFull(full.dest ?? full.path ?? '.', thrown);
  const first = errors[0];
  const said = first instanceof Error ? first.message : String(thrown);
  return new Failure('E_BUG', 'infra', `a bug in fusegate: ${said}`, { cause: thrown });
}

/** An error and what it was made of, the earliest of a tear-down's errors first. */
function withCauses(thrown: unknown): readonly unknown[] {
  if (thrown instanceof SuppressedError) {
    return [...withCauses(thrown.suppressed), ...withCauses(thrown.error)];
  }
  if (thrown instanceof AggregateError) return thrown.errors.flatMap(withCauses);
  return [thrown];
}

function isDiskFull(error: unknown): error is NodeJS.ErrnoException & { readonly dest?: string } {
  return error instanceof Error && 'code' in error && (error.code === 'ENOSPC' || error.code === 'EDQUOT');
}
