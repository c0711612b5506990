import { join } from 'node:path';
import { projectRoot } from '#runner/lib/paths.ts';
import { loadBehaviours, type Behaviours } from './behaviours.ts';
import { declaredTests } from './declared-tests.ts';
import { joinCoverage, type Coverage } from './join-coverage.ts';
import { loadRecordedRuns, type RecordedRuns } from './recorded-runs.ts';

export const coveragePaths = {
  behaviours: join(projectRoot, 'suites', 'behaviours.json'),
  recorded: join(projectRoot, 'suites', 'recorded-runs.json'),
  page: join(projectRoot, 'docs', 'coverage-of-behaviours.md'),
} as const;

export interface LoadedCoverage {
  readonly behaviours: Behaviours;
  readonly recorded: RecordedRuns;
  readonly testIds: readonly string[];
  readonly coverage: Coverage;
}

/** Everything that the page is made of. @throws Failure E_CONFIG_INVALID (user). */
export async function loadCoverage(): Promise<LoadedCoverage> {
  const [behaviours, recorded, testIds] = await Promise.all([
    loadBehaviours(coveragePaths.behaviours),
    loadRecordedRuns(coveragePaths.recorded),
    declaredTests(),
  ]);
  return { behaviours, recorded, testIds, coverage: joinCoverage(behaviours, testIds, recorded) };
}
