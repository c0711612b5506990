import { lstat, readdir, rm } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import type { Command } from 'commander';
import { cleanCache } from '#kernel/cache/prune.ts';
import { ExitCode, Failure } from '#runner/lib/failure.ts';
import { cacheDir } from '#runner/lib/paths.ts';
import { sweepDeadRuns } from '#runner/lib/reaper.ts';
import { refuseWhileRunsLive } from '../living-runs.ts';
import type { Ends } from '../main.ts';

/** Caches that are not the kernels'. Tools that set-up installed stay. */
const OTHER_CACHES = ['bench', 'compiled', 'rootfs', 'states', 'verdicts'] as const;

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
      if (results !== true) await refuseForeignCache();
      const caches = results === true ? [] : OTHER_CACHES.map((area) => cacheDir(area));
      for (const path of [...(await resultsBelow(resolve('out'))), ...caches]) {
        if ((await lstat(path).catch(() => undefined)) === undefined) continue;
        await rm(path, { recursive: true, force: true });
        tell(`removed ${path}`);
      }
      if (results !== true) for (const path of await cleanCache()) tell(`removed ${path}`);
      ends(ExitCode.passed);
    });
}

/** Directories of runs and benchmarks, as they are named without --out, and the link to the last run. */
async function resultsBelow(out: string): Promise<readonly string[]> {
  const names = await readdir(out).catch(() => []);
  return names
    .filter((name) => name === 'latest' || name === 'bench' || /^\d{8}-\d{6}-/.test(name))
    .map((name) => join(out, name));
}

/** Everything that fusegate and its set-up put into the cache, and what a disk of its own has. */
const OURS: ReadonlySet<string> = new Set([
  ...[
    'bench',
    'build',
    'ccache',
    'compiled',
    'downloads',
    'kernels',
    'kvm-probe.json',
    'locks',
    'rootfs',
    'runs',
    'setup',
  ],
  ...['sources', 'states', 'tools', 'verdicts', 'lost+found'],
]);

/**
 * FUSEGATE_CACHE may have been pointed at a directory in which `build` and `sources` are somebody's work.
 *
 * @throws Failure E_CACHE_FOREIGN (user)
 */
async function refuseForeignCache(): Promise<void> {
  const names = await readdir(cacheDir()).catch(() => []);
  const foreign = names.filter((name) => !OURS.has(name));
  if (foreign.length === 0) return;
  throw new Failure(
    'E_CACHE_FOREIGN',
    'user',
    `${cacheDir()} also holds ${foreign.slice(0, 5).join(', ')}, which fusegate did not put there`,
    { hint: 'nothing was removed; move those away, or remove by hand what you do not need' },
  );
}
