import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { loadMutants, type Catalogue, type Mutant } from './mutants.ts';
import { TABLE_MARK } from './render.ts';
import { recordMutants } from './run-mutants.ts';

test('mutants --record: mistakes that were not chosen stay in the catalogue and are in the table', async (t) => {
  const dir = await mkdtemp(join(tmpdir(), 'fusegate-mutants-'));
  t.teardown(() => rm(dir, { recursive: true }));
  const catalogue: Catalogue = {
    ...{ profile: 'p', dir, file: join(dir, 'mutants.json'), page: join('docs', 'page.md') },
  };
  const one: Mutant = { number: 1, file: 'fs/fuse/dir.c', what: 'wrong', noticedBy: ['a/b: old'] };
  const two: Mutant = { ...one, number: 2, noticedBy: ['a/b: other'] };
  await mkdir(join(dir, 'docs'));
  await writeFile(catalogue.file, JSON.stringify([one, two]));
  await writeFile(join(dir, catalogue.page), `written by hand\n\n${TABLE_MARK}\nold table\n`);

  const result = { outcome: 'noticed', by: 'a/b: new', message: 'm', durationMs: 1, tried: {} } as const;
  await recordMutants(dir, catalogue, { results: { 1: result }, release: '6.12.1' });

  t.deepEqual(await loadMutants(catalogue), [{ ...one, noticedBy: ['a/b: new'] }, two]);
  const page = await readFile(join(dir, catalogue.page), 'utf8');
  t.regex(page, /^written by hand\n/);
  t.regex(page, /^\| 1 .* a\/b: new /m);
  t.regex(page, /^\| 2 .* a\/b: other /m);
  t.notRegex(page, /old table/);
});
