import { exec, type ExecOptions, type ExecResult, lastLines } from '#runner/lib/exec.ts';
import { Failure } from '#runner/lib/failure.ts';

/**
 * The shell leads the process group (`exec` starts every program as a leader) and waits for TERM, which the
 * kernel sends it when its parent dies; then it kills the group, itself included.
 */
const script = `trap 'trap - TERM; kill -KILL 0' TERM; "$@" & wait "$!"`;

/**
 * A command line that ends, with all its children, when this program dies, however it dies. Without it make
 * and tar would go on for minutes after a `kill -9`, and write into what the next run is making anew.
 */
function guarded(program: string, args: readonly string[]): readonly [string, readonly string[]] {
  return ['setpriv', ['--pdeathsig', 'TERM', 'bash', '-c', script, `guarded-${program}`, program, ...args]];
}

/** As `exec`, for a program that runs long. @throws Failure E_TOOL_MISSING (infra) and those of exec. */
export async function execGuarded(
  program: string,
  args: readonly string[],
  options: ExecOptions,
): Promise<ExecResult> {
  const result = await exec(...guarded(program, args), options);
  // The shell's code for a command that is not there.
  if (result.exitCode !== 127 || !result.stderr.includes('command not found')) return result;
  throw new Failure('E_TOOL_MISSING', 'infra', `${program} is not installed`, {
    hint: 'run `make doctor`: it names what is missing and the command that installs it',
  });
}

/** As `execGuarded`, but an exit code other than 0 is a Failure with the last lines the program said. */
export async function execGuardedOrFail(
  program: string,
  args: readonly string[],
  options: ExecOptions & { readonly code?: `E_${string}`; readonly hint?: string },
): Promise<void> {
  const result = await execGuarded(program, args, options);
  if (result.exitCode === 0) return;
  const how =
    result.exitCode === undefined
      ? `was ended by ${result.signal ?? 'a signal'}`
      : `exited ${result.exitCode}`;
  const said = lastLines(result.stderr === '' ? result.stdout : result.stderr, 3);
  throw new Failure(
    options.code ?? 'E_TOOL_FAILED',
    'infra',
    `${program} ${how}${said === '' ? '' : `: ${said}`}`,
    {
      hint: options.hint,
    },
  );
}
