import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { projectRoot } from '#runner/lib/paths.ts';
import { loadKnownFailures } from '#runner/verdict/known-failures.ts';
import { coveragePaths, loadCoverage } from './coverage.ts';
import { renderCoverage } from './render-coverage.ts';

const { behaviours, recorded, coverage, testIds } = await loadCoverage();

test('coverage: every row has a test or a reason, every mark and every listed test exists', (t) => {
  t.deepEqual(coverage.problems, []);
});

test('coverage: docs/coverage-of-behaviours.md is up to date', async (t) => {
  const page = await readFile(coveragePaths.page, 'utf8').catch(() => '');
  t.true(page === renderCoverage(behaviours, coverage, recorded), 'run `npx fusegate coverage`');
});

test('coverage: no two tests have one id', (t) => {
  t.deepEqual(
    testIds.filter((id, at) => testIds.indexOf(id) !== at),
    [],
  );
});

test('known failures: each is of a test that exists, and what it points to is there', async (t) => {
  const known = await loadKnownFailures(join(projectRoot, 'suites', 'known-failures.json'));
  t.deepEqual(
    known.filter(({ id }) => !testIds.includes(id)).map(({ id }) => `no such test: ${id}`),
    [],
  );
  t.deepEqual(
    known
      .map(({ link }) => link)
      .filter((link) => !URL.canParse(link) && !existsSync(join(projectRoot, link))),
    [],
  );
});
