import { type Blame, Failure } from '#runner/lib/failure.ts';
import type { ExecResult } from '#runner/lib/exec.ts';
import { diskFull } from '../cache/disk-full.ts';
import { printable } from '../series/printable.ts';
import { firstBuildError } from './first-error.ts';
import type { MakeOptions } from './make.ts';

export interface FailedBuild {
  /** What was run, for people. */
  readonly step: string;
  readonly lines: readonly string[];
  readonly result: Pick<ExecResult, 'exitCode' | 'signal'>;
  /** Who is to blame for an error in the source. */
  readonly blame: Blame;
  readonly options: Pick<MakeOptions, 'log' | 'objects'>;
}

/** E_BUILD_FAILED for an error in the source; what the machine lacks has codes of its own. */
export async function buildFailure(failed: FailedBuild): Promise<Failure> {
  const { options, step } = failed;
  const evidence = [{ label: 'build log', path: options.log }];
  const error = firstBuildError(failed.lines.join('\n'));
  switch (error.kind) {
    case 'disk-full':
      return diskFull(options.objects);
    case 'tool-missing':
      return new Failure(
        'E_TOOL_MISSING',
        'infra',
        `the kernel build needs ${printable(error.tool)}, which is not installed`,
        {
          hint: 'run `make doctor`: it names what is missing and the command that installs it',
          evidence,
        },
      );
    case 'out-of-memory':
    case 'killed':
      return new Failure('E_BUILD_KILLED', 'infra', `${step} was killed: ${printable(error.message)}`, {
        hint: 'most likely memory ran out (`dmesg` says): give the machine more, or build with fewer processors (`taskset`)',
        evidence,
      });
    default: {
      const what =
        'file' in error
          ? `${error.file}:${error.line}: ${error.message}`
          : 'where' in error
            ? `${error.where}: ${error.message}`
            : error.message;
      const ended =
        failed.result.exitCode === undefined ? `ended by ${failed.result.signal ?? 'a signal'}` : 'failed';
      return new Failure('E_BUILD_FAILED', failed.blame, `${step} ${ended}: ${printable(what, 400)}`, {
        hint: 'the build log has the whole story; `fusegate build` repeats this stage alone',
        evidence,
      });
    }
  }
}
