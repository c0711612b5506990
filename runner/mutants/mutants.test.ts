import { globSync, readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { projectRoot } from '#runner/lib/paths.ts';
import { loadSeries } from '#kernel/series/load-series.ts';
import { catalogues, chooseCatalogue, chooseMutants, loadMutants, writeSeries } from './mutants.ts';

const loaded = await Promise.all(
  catalogues.map(async (catalogue) => ({ ...catalogue, mutants: await loadMutants(catalogue) })),
);

for (const { profile, dir, mutants } of loaded) {
  test(`mutants of ${profile}: the patches have those of the table, and no others`, (t) => {
    const patches = globSync(join(dir, '*.patch')).map((file) => readFileSync(file, 'utf8'));
    const inPatches = patches.flatMap(
      (text) =>
        [...text.matchAll(/^diff --git a\/(\S+)|^\+.*/gm)].reduce<{ file: string; found: string[] }>(
          ({ file, found }, [line, next]) => {
            const numbers = [...line.matchAll(/\bMUTANT\((\d+)\)/g)].map(([, n]) => `${n ?? ''} ${file}`);
            return { file: next ?? file, found: [...found, ...numbers] };
          },
          { file: '', found: [] },
        ).found,
    );
    t.deepEqual(
      [...new Set(inPatches)].toSorted(),
      mutants.map(({ number, file }) => `${number} ${file}`).toSorted(),
    );
  });

  test(`mutants of ${profile}: whoever is said to notice is a test file that is there`, (t) => {
    const files = new Set(globSync('suites/*/*.test.ts', { cwd: projectRoot }));
    const missing = mutants
      .flatMap(({ noticedBy }) => noticedBy)
      .filter((id) => !files.has(`suites/${id.slice(0, id.indexOf(': '))}.test.ts`));
    t.deepEqual(missing, []);
  });
}

test('mutants: those of a profile with a series of its own go on top of that series', async (t) => {
  const out = await mkdtemp(join(tmpdir(), 'fusegate-mutants-'));
  t.teardown(() => rm(out, { recursive: true, force: true }));
  const { signal } = new AbortController();
  const titles = async (path: string): Promise<readonly string[]> =>
    (await loadSeries(path, undefined, signal)).series.patches.map(({ subject }) => subject);
  const catalogue = chooseCatalogue('v12-6.1');
  const own = await titles(join(projectRoot, 'kernel', 'series', 'v12'));
  t.deepEqual(await titles(await writeSeries(catalogue, 'v12', out)), [
    ...own,
    ...(await titles(catalogue.dir)),
  ]);
});

test('mutants: a profile without any is named, with those that have some', (t) => {
  const failure = t.throws(() => chooseCatalogue('v11-6.1'), { message: /no mutants of profile "v11-6.1"/ });
  t.like(failure, { hint: 'choose one of: mainline-6.12, v12-6.1' });
});

test('mutants: nothing but its command makes machines with a mistake', (t) => {
  const importers = globSync('{kernel,rootfs,runner,suites}/**/*.ts', { cwd: projectRoot })
    .filter((file) => !file.startsWith('runner/mutants/'))
    .filter((file) => readFileSync(join(projectRoot, file), 'utf8').includes('#runner/mutants/'));
  t.deepEqual(importers, ['runner/cli/commands/mutants.ts']);
});

test('mutants: --only takes numbers and ranges', async (t) => {
  const mutants = await loadMutants(chooseCatalogue('mainline-6.12'));
  const numbers = (only: string): readonly number[] =>
    chooseMutants(mutants, only).map(({ number }) => number);
  t.deepEqual(numbers('101'), [101]);
  t.deepEqual(numbers('103, 101-102'), [101, 102, 103]);
  for (const only of ['', 'all', '1-', '999999']) {
    t.throws(() => chooseMutants(mutants, only), { message: /--only names no mutant/ }, only);
  }
});
