import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { loadSeries } from '#kernel/series/load-series.ts';
import { projectRoot } from '#runner/lib/paths.ts';
import { writeMarkedSeries, type Marks } from './marked-series.ts';

const from = join(projectRoot, 'kernel', 'series', 'v12');

async function setUp(t: { teardown(work: () => Promise<void>): void }) {
  const dir = await mkdtemp(join(tmpdir(), 'fusegate-marked-'));
  t.teardown(() => rm(dir, { recursive: true }));
  const pristine = join(dir, 'linux');
  await mkdir(join(pristine, 'fs/fuse'), { recursive: true });
  for (const name of ['readdir.c', 'xattr.c']) {
    await writeFile(join(pristine, 'fs/fuse', name), `/* ${name} */\nint a;\nint b;\nint c;\n`);
  }
  return async (name: string, marks: Marks) => {
    const to = await writeMarkedSeries(from, join(dir, name), pristine, marks);
    const { series } = await loadSeries(to, undefined, new AbortController().signal);
    return { to, patches: series.patches };
  };
}

test('bench series: a mark in the first patch makes every kernel of the series another one', async (t) => {
  const marked = await setUp(t);
  const { to, patches } = await marked('a', { first: 'm1' });
  const plain = (await loadSeries(from, undefined, new AbortController().signal)).series.patches;
  t.is(patches.length, plain.length);
  t.deepEqual(patches[0]?.files.toSorted(), [...(plain[0]?.files ?? []), 'fs/fuse/readdir.c'].toSorted());
  t.regex(
    Buffer.from(patches[0]?.diff ?? []).toString(),
    /^\+static const char fusegate_bench_m1\[\] __used/m,
  );
  t.deepEqual(
    patches.slice(1).map(({ fingerprint }) => fingerprint),
    plain.slice(1).map(({ fingerprint }) => fingerprint),
  );
  t.deepEqual((await readdir(to)).toSorted(), (await readdir(from)).toSorted());
});

test('bench series: a second mark changes the last patch and no other', async (t) => {
  const marked = await setUp(t);
  const one = await marked('a', { first: 'm1' });
  const two = await marked('b', { first: 'm1', last: 'm2' });
  const differ = two.patches.filter(({ fingerprint }, at) => fingerprint !== one.patches[at]?.fingerprint);
  t.deepEqual(
    differ.map(({ index }) => index),
    [two.patches.length],
  );
  t.true(differ[0]?.files.includes('fs/fuse/xattr.c'));
});

test('bench series: the files that are marked are touched by no patch', async (t) => {
  for (const name of await readdir(from)) {
    const text = await readFile(join(from, name), 'utf8');
    t.notRegex(text, /^diff --git a\/fs\/fuse\/(?:readdir|xattr)\.c /m, name);
  }
});
