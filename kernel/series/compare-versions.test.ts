import { join } from 'node:path';
import test from 'ava';
import { projectRoot } from '#runner/lib/paths.ts';
import { asOneChange, compareVersions } from './compare-versions.ts';
import { loadSeries } from './load-series.ts';
import type { Series } from './series.ts';

const own = async (name: string): Promise<Series> => {
  const path = join(projectRoot, 'kernel/series', name);
  return (await loadSeries(path, undefined, new AbortController().signal)).series;
};

test('versions: V12 has two of the patches of V11 in another form, and one more', async (t) => {
  t.deepEqual(compareVersions(await own('v11'), await own('v12')), {
    same: [1, 2, 5, 6, 7],
    changed: [3, 4],
    added: [8],
    dropped: [],
  });
});

test('versions: what the later one has not is named', async (t) => {
  const { dropped, added } = compareVersions(await own('v12'), await own('v11'));
  t.deepEqual([dropped, added], [['fuse: introduce passthrough for mmap'], []]);
});

test('versions: a patch under a new subject and one at another place are the same change', async (t) => {
  const v12 = await own('v12');
  const patches = v12.patches
    .toReversed()
    .map((patch, at) => ({ ...patch, index: at + 1, subject: at === 2 ? 'fuse: renamed' : patch.subject }));
  const found = compareVersions(v12, { ...v12, patches });
  t.deepEqual([found.same.length, found.changed, found.added, found.dropped], [8, [], [], []]);
});

test("versions: a mail program's signature below a diff is no change", async (t) => {
  const v12 = await own('v12');
  const patches = v12.patches.map((patch) => ({
    ...patch,
    diff: Buffer.concat([patch.diff, Buffer.from('-- \n2.30.0\n')]),
  }));
  t.deepEqual(compareVersions(v12, { ...v12, patches }).changed, []);
});

test('versions: as one change they touch the files of both', async (t) => {
  const [v11, v12] = [await own('v11'), await own('v12')];
  const { files, index } = asOneChange(v11, v12);
  t.is(index, 1);
  t.true(
    [...v11.patches, ...v12.patches].every((patch) => patch.files.every((file) => files.includes(file))),
  );
});
