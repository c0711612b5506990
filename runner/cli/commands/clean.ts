import { rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Command } from 'commander';
import { cleanCache } from '#kernel/cache/prune.ts';
import { ExitCode } from '#runner/lib/failure.ts';
import { cacheDir } from '#runner/lib/paths.ts';
import { sweepDeadRuns } from '#runner/lib/reaper.ts';
import { refuseWhileRunsLive } from '../living-runs.ts';
import type { Ends } from '../main.ts';

/** Caches that are not the kernels': guest images. Tools that set-up installed stay. */
const OTHER_CACHES = ['rootfs'] as const;

/** Removes what dead runs left, results and caches; with `--results` it leaves the caches alone. */
export function addCleanCommand(program: Command, ends: Ends): void {
  program
    .command('clean')
    .description('remove left-overs of dead runs, results in out/, and caches')
    .option('--results', 'leave the caches: the next run builds nothing again')
    .action(async ({ results }: { readonly results?: boolean }) => {
      const tell = (text: string): void => {
        process.stdout.write(`${text}\n`);
      };
      await sweepDeadRuns(tell);
      await refuseWhileRunsLive();
      const paths = ['out', ...(results === true ? [] : OTHER_CACHES.map((area) => cacheDir(area)))];
      for (const path of paths) {
        if ((await stat(path).catch(() => undefined)) === undefined) continue;
        await rm(path, { recursive: true, force: true });
        tell(`removed ${path === 'out' ? join(process.cwd(), path) : path}`);
      }
      if (results !== true) for (const path of await cleanCache()) tell(`removed ${path}`);
      ends(ExitCode.passed);
    });
}
