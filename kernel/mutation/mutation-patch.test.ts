import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import type { Profile } from '../profile.ts';
import { applySeries } from '../series/apply.ts';
import { loadSeries } from '../series/load-series.ts';
import { fakePatch, makeFakeKernel } from '../testdata/fake-kernel.ts';
import { writeMutationPatch } from './mutation-patch.ts';

const dir = await mkdtemp(join(tmpdir(), 'fusegate-mutation-'));
process.env['FUSEGATE_CACHE'] = join(dir, 'cache');
const tree = await makeFakeKernel(join(dir, 'tree'));
await writeFile(join(tree, 'fs/fuse/dir.c'), '#include "fuse.h"\nint d(int a)\n{\n\treturn a ? 1 : 2;\n}\n');
const series = join(dir, 'series');
await mkdir(series);
await writeFile(
  join(series, '0001.patch'),
  fakePatch(5, '#include "fuse.h"\n+int f(void) { return 0; }').replace('@@ -4,3 +4,3', '@@ -4,3 +4,4'),
);
await writeFile(join(series, 'series'), '0001.patch\n');
test.after.always(() => rm(dir, { recursive: true, force: true }));

const profile: Profile = {
  name: 'fake',
  description: 'fake',
  source: { debianPackage: 'linux-source-0' },
  ...{ series: null, fragments: ['fuse'], abi: 'backing-id', kernelFeatures: {}, expectations: [] },
};
const { signal } = new AbortController();
const context = (out: string) => ({ emit: () => undefined, signal, out: join(dir, out) });

test('mutation patch: what a series makes of the source is mutated, file by file in one row of numbers', async (t) => {
  const { path, mutants } = await writeMutationPatch(
    { profile, tree, series, files: ['fs/fuse/*.c'] },
    context('both'),
  );
  t.deepEqual(
    mutants.map(({ number, file, what }) => `${number} ${file} ${what}`),
    [
      '1 fs/fuse/dir.c line 4, d(): taken for false when true: a',
      '2 fs/fuse/dir.c line 4, d(): taken for true when false: a',
      '3 fs/fuse/file.c line 6, f(): returns -EIO instead of 0',
    ],
  );
  const whole = join(dir, 'whole');
  await cp(series, whole, { recursive: true });
  await cp(path, join(whole, 'every.patch'));
  await writeFile(join(whole, 'series'), '0001.patch\nevery.patch\n');
  const options = {
    tree,
    treeLabel: 'fake',
    worktree: join(dir, 'applied'),
    signal,
    onApplied: () => undefined,
  };
  const { dir: made } = await applySeries((await loadSeries(whole, undefined, signal)).series, options);
  t.regex(await readFile(join(made, 'fs/fuse/file.c'), 'utf8'), /return \(MUTANT\(3\) \? -EIO : 0\);/);
});

test('mutation patch: a file that is left out has none, and without any that is said', async (t) => {
  const files = ['fs/fuse/*.c', '!fs/fuse/file.c'];
  const { mutants } = await writeMutationPatch({ profile, tree, series, files }, context('one'));
  t.deepEqual([...new Set(mutants.map(({ file }) => file))], ['fs/fuse/dir.c']);
  await t.throwsAsync(
    writeMutationPatch({ profile, tree, series, files: ['fs/none/*.c'] }, context('none')),
    { code: 'E_USAGE', message: /have 0 mutants/ },
  );
});
