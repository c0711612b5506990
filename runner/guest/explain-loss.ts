import { beforeDeadline } from '#runner/lib/deadline.ts';
import { Failure } from '#runner/lib/failure.ts';
import type { Machine } from '#runner/machine/machine.ts';

/**
 * Work on the guest, until it is done or the machine lost. A connection usually breaks a moment before the
 * reason is known, so a failure waits for the machine's own for a while.
 */
export async function explainLoss<T>(machine: Machine, work: Promise<T>, newsMs: number): Promise<T> {
  const lost = machine.lost.then((failure) => Promise.reject(failure));
  lost.catch(() => undefined);
  try {
    return await Promise.race([work, lost]);
  } catch (error) {
    if (!(error instanceof Failure) || !BROKEN.has(error.code)) throw error;
    throw await beforeDeadline(machine.lost, newsMs, () => withConsole(error, machine));
  }
}

/** What a lost machine looks like from this end of its connection. */
const BROKEN: ReadonlySet<string> = new Set([
  'E_SSH_CLOSED',
  'E_SSH_REFUSED',
  'E_SSH_CHANNEL',
  'E_NO_NETWORK',
  'E_MACHINE_HUNG',
  'E_AGENT_GONE',
]);

function withConsole(failure: Failure, machine: Machine): Failure {
  return new Failure(failure.code, failure.blame, failure.message, {
    hint: failure.hint,
    evidence: [...failure.evidence, { label: 'console', path: machine.consolePath }],
    cause: failure,
  });
}
