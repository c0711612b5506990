import { ExitCode, exitCodeOf, Failure } from '#runner/lib/failure.ts';
import { renderFailure } from '#runner/report/render-text.ts';
import { stateFailure } from '#runner/report/builder.ts';

/**
 * Says why the program ends, on standard error: a failure that we understand in one sentence with its hint,
 * anything else with its stack, because it is a bug of ours.
 *
 * @returns the exit code.
 */
export function tellError(error: unknown): number {
  if (error instanceof Failure) {
    process.stderr.write(`${renderFailure(stateFailure(error))}\n`);
    return exitCodeOf(error.blame);
  }
  const stack = error instanceof Error ? (error.stack ?? error.message) : String(error);
  process.stderr.write(
    `${stack}\nfusegate: this is a bug in fusegate; please report it with the text above\n`,
  );
  return ExitCode.infrastructure;
}
