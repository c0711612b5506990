import { join } from 'node:path';
import type { Command } from 'commander';
import { loadProfile } from '#kernel/profile.ts';
import { ExitCode } from '#runner/lib/failure.ts';
import { loadReport } from '#runner/report/load-report.ts';
import { deviationFrom, isNone, renderDeviation } from '#runner/verdict/expected-failures.ts';
import type { Ends } from '../main.ts';

/** For kernels that are here because they are wrong: whether the gate has closed in the right place. */
export function addExpectedCommand(program: Command, ends: Ends): void {
  program
    .command('expected')
    .description('whether a run failed in exactly the tests that its profile expects to fail')
    .argument('[dir]', 'directory of a run (default: out/latest)')
    .action(async (dir: string | undefined) => {
      const report = await loadReport(dir ?? join('out', 'latest'));
      const { expectations } = await loadProfile(report.profile);
      const deviation = deviationFrom(expectations, report);
      process.stdout.write(renderDeviation(deviation, expectations));
      ends(isNone(deviation) ? ExitCode.passed : ExitCode.kernelFailed);
    });
}
