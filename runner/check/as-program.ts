import { exitCodeOf, ExitCode, Failure } from '#runner/lib/failure.ts';

/**
 * The end of every entry in this folder: SIGINT and SIGTERM interrupt the work, and its outcome is the exit code.
 *
 * @param work whether what was to be shown is true; a Failure is told in one line.
 * @param listen `once`: there is nothing to clean up, and a second Ctrl-C ends it where it stands.
 */
export async function asProgram(
  work: (signal: AbortSignal) => Promise<boolean>,
  listen: 'on' | 'once' = 'on',
): Promise<void> {
  const interrupted = new AbortController();
  for (const name of ['SIGINT', 'SIGTERM'] as const) {
    process[listen](name, () => {
      interrupted.abort(new Failure('E_INTERRUPTED', 'interrupted', `interrupted by ${name}`));
    });
  }
  try {
    process.exitCode = (await work(interrupted.signal)) ? ExitCode.passed : ExitCode.kernelFailed;
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    process.stderr.write(`${error.code}: ${error.message}\n`);
    process.exitCode = exitCodeOf(error.blame);
  }
}
