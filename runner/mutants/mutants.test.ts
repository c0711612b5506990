import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { projectRoot } from '#runner/lib/paths.ts';
import { chooseMutants, loadMutants, mutantSeries } from './mutants.ts';
import { numberList } from './number-list.ts';

const mutants = await loadMutants();

test('mutants: the patches have those of the table, and no others', (t) => {
  const patches = globSync(join(mutantSeries, '*.patch')).map((file) => readFileSync(file, 'utf8'));
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

test('mutants: whoever is said to notice is a test file that is there', (t) => {
  const files = new Set(globSync('suites/*/*.test.ts', { cwd: projectRoot }));
  const missing = mutants
    .flatMap(({ noticedBy }) => noticedBy)
    .filter((id) => !files.has(`suites/${id.slice(0, id.indexOf(': '))}.test.ts`));
  t.deepEqual(missing, []);
});

test('mutants: nothing but its command makes machines with a mistake', (t) => {
  const importers = globSync('{kernel,rootfs,runner,suites}/**/*.ts', { cwd: projectRoot })
    .filter((file) => !file.startsWith('runner/mutants/'))
    .filter((file) => readFileSync(join(projectRoot, file), 'utf8').includes('#runner/mutants/'));
  t.deepEqual(importers, ['runner/cli/commands/mutants.ts']);
});

test('mutants: --only takes numbers and ranges', (t) => {
  const numbers = (only: string): readonly number[] =>
    chooseMutants(mutants, only).map(({ number }) => number);
  t.deepEqual(numbers('101'), [101]);
  t.deepEqual(numbers('103, 101-102'), [101, 102, 103]);
  for (const only of ['', 'all', '1-', '999999']) {
    t.throws(() => chooseMutants(mutants, only), { message: /--only names no mutant/ }, only);
  }
});

test('mutants: the kernel’s list of numbers is read, and nothing is made of what is none', (t) => {
  t.deepEqual(numberList('3,7-9\n'), [3, 7, 8, 9]);
  t.deepEqual(numberList('\n'), []);
  t.deepEqual(numberList('x,9-7,99999999'), []);
});
