import { readFile, writeFile } from 'node:fs/promises';
import { relative } from 'node:path';
import type { Command } from 'commander';
import { loadBehaviours } from '#runner/coverage/behaviours.ts';
import { coveragePaths, loadCoverage } from '#runner/coverage/coverage.ts';
import { joinCoverage, withoutStaleReasons } from '#runner/coverage/join-coverage.ts';
import { loadRecordedRuns, withRun } from '#runner/coverage/recorded-runs.ts';
import { renderCoverage } from '#runner/coverage/render-coverage.ts';
import { ExitCode } from '#runner/lib/failure.ts';
import { projectRoot } from '#runner/lib/paths.ts';
import { loadReport } from '#runner/report/load-report.ts';
import type { Ends } from '../main.ts';

interface Options {
  readonly record: readonly string[];
  readonly uncovered: boolean;
}

/** Writes the page that says which behaviour has which tests. */
export function addCoverageCommand(program: Command, ends: Ends): void {
  program
    .command('coverage')
    .description('write docs/coverage-of-behaviours.md from the tests and suites/behaviours.json')
    .option('--record <dir...>', 'take over which tests ran from these runs of everything', [])
    .option('--uncovered', 'only list the rows that no test covers', false)
    .action(async ({ record, uncovered }: Options) => {
      if (uncovered) {
        await listUncovered();
        return;
      }
      for (const dir of record) {
        const recorded = withRun(await loadRecordedRuns(coveragePaths.recorded), await loadReport(dir));
        await writeJson(coveragePaths.recorded, recorded);
      }
      ends((await writePage()) === 0 ? ExitCode.passed : ExitCode.usage);
    });
}

async function listUncovered(): Promise<void> {
  const { coverage } = await loadCoverage();
  for (const { row, tests } of coverage.rows) {
    const why = row.reason === undefined ? '' : ` (${row.reason})`;
    if (tests.length === 0) process.stdout.write(`${row.id.padEnd(4)} ${row.what}${why}\n`);
  }
}

/** @returns the number of problems, each of which has been said. */
async function writePage(): Promise<number> {
  const loaded = await loadCoverage();
  const behaviours = withoutStaleReasons(loaded.behaviours, loaded.coverage);
  if (JSON.stringify(behaviours) !== JSON.stringify(await loadBehaviours(coveragePaths.behaviours)))
    await writeJson(coveragePaths.behaviours, behaviours);
  const coverage = joinCoverage(behaviours, loaded.testIds, loaded.recorded);
  const page = renderCoverage(behaviours, coverage, loaded.recorded);
  const before = await readFile(coveragePaths.page, 'utf8').catch(() => '');
  if (page !== before) await writeFile(coveragePaths.page, page);
  const covered = coverage.rows.filter(({ tests }) => tests.length > 0).length;
  for (const problem of coverage.problems) process.stderr.write(`${problem}\n`);
  const where = relative(projectRoot, coveragePaths.page);
  process.stdout.write(
    `${covered} of ${coverage.rows.length} rows covered by ${loaded.testIds.length} tests; ${where} ${page === before ? 'is up to date' : 'written'}\n`,
  );
  return coverage.problems.length;
}

async function writeJson(path: string, value: unknown): Promise<void> {
  await writeFile(path, `${JSON.stringify(value, undefined, 2)}\n`);
}
