import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { execOrFail } from '#runner/lib/exec.ts';
import { Failure } from '#runner/lib/failure.ts';
import { fakeFile, fakePatch, makeFakeKernel } from '../testdata/fake-kernel.ts';
import { applySeries } from './apply.ts';
import { isRange } from './git-range.ts';
import { loadSeries } from './load-series.ts';

const dir = await mkdtemp(join(tmpdir(), 'fusegate-series-'));
test.after.always(() => rm(dir, { recursive: true, force: true }));
const { signal } = new AbortController();

async function put(name: string, contents: string | Uint8Array): Promise<string> {
  const path = join(dir, name);
  await mkdir(join(path, '..'), { recursive: true });
  await writeFile(path, contents);
  return path;
}

async function subjects(spec: string): Promise<readonly string[]> {
  const { series } = await loadSeries(spec, undefined, signal);
  return series.patches.map(({ index, subject }) => `${index} ${subject}`);
}

test('load: an mbox and a single patch file', async (t) => {
  const mbox = fakePatch(9, 'b', '[PATCH 2/2] b') + fakePatch(5, 'a', '[PATCH 1/2] a');
  t.deepEqual(await subjects(await put('v13.mbox', mbox)), ['1 a', '2 b']);
  t.deepEqual(await subjects(await put('one.patch', fakePatch(5, 'a', '[PATCH] one'))), ['1 one']);
});

test('load: one file of a longer series is a patch of its own', async (t) => {
  t.deepEqual(await subjects(await put('0003-c.patch', fakePatch(5, 'a', '[PATCH 3/7] c'))), ['1 c']);
});

test('load: a bare diff is named for its file', async (t) => {
  const diff = 'Some words.\n\n--- a/f\n+++ b/f\n@@ -1 +1 @@\n-a\n+b\n';
  t.deepEqual(await subjects(await put('drop-size.diff', diff)), ['1 drop-size']);
});

test('load: a directory is read in the order of its names, numbers as numbers', async (t) => {
  await put('plain/10-c.patch', fakePatch(20, 'c', '[PATCH] c'));
  await put('plain/2-b.patch', fakePatch(10, 'b', '[PATCH] b'));
  await put('plain/0000-cover-letter.patch', 'Subject: [PATCH 0/2] Cover\n\ntext\n');
  await put('plain/README', 'no patch');
  t.deepEqual(await subjects(join(dir, 'plain')), ['1 b', '2 c']);
  t.is((await loadSeries(join(dir, 'plain'), undefined, signal)).series.title, 'Cover');
});

test('load: a quilt series file decides order and stripping', async (t) => {
  await put('quilt/series', '# comment\nb.patch\na.patch -p0\n');
  await put('quilt/a.patch', '--- f\n+++ f\n@@ -1 +1 @@\n-a\n+b\n');
  await put('quilt/b.patch', fakePatch(5, 'b', '[PATCH] b'));
  await put('quilt/unlisted.patch', fakePatch(5, 'c', '[PATCH] c'));
  t.deepEqual(await subjects(join(dir, 'quilt')), ['1 b', '2 a.patch']);
  const { series } = await loadSeries(join(dir, 'quilt'), undefined, signal);
  t.deepEqual(series.patches[1]?.files, ['f']);
});

test('load: every input that is no series is refused with its own code', async (t) => {
  await put('outside/series', '../one.patch\n');
  await put('lost/series', 'gone.patch\n');
  await mkdir(join(dir, 'nothing'), { recursive: true });
  const cases: readonly (readonly [string, Failure['code'], Failure['blame']])[] = [
    [join(dir, 'not-there.mbox'), 'E_SERIES_NOT_FOUND', 'user'],
    ['v1..v2', 'E_SERIES_NOT_FOUND', 'user'],
    [await put('empty.mbox', ''), 'E_SERIES_EMPTY', 'series'],
    [join(dir, 'nothing'), 'E_SERIES_EMPTY', 'series'],
    [await put('kernel.mbox', new Uint8Array([0x7f, 0x45, 0x4c, 0x46, 0, 1])), 'E_SERIES_BINARY', 'series'],
    [await put('text.patch', 'just words\n'), 'E_SERIES_NO_DIFF', 'series'],
    [join(dir, 'outside'), 'E_SERIES_UNSAFE_PATH', 'series'],
    [join(dir, 'lost'), 'E_SERIES_INCOMPLETE', 'series'],
  ];
  for (const [spec, code, blame] of cases) {
    const failure = await t.throwsAsync(loadSeries(spec, undefined, signal), { instanceOf: Failure }, spec);
    t.is(failure.code, code, spec);
    t.is(failure.blame, blame, spec);
  }
});

test('load: a gzipped mbox is told how to unpack', async (t) => {
  const path = await put('v12.mbox.gz', new Uint8Array([0x1f, 0x8b, 8, 0, 0]));
  const failure = await t.throwsAsync(loadSeries(path, undefined, signal), { instanceOf: Failure });
  t.regex(failure.hint ?? '', /gunzip v12\.mbox\.gz/);
});

test('range: what is one', (t) => {
  t.true(isRange('v6.12..topic'));
  t.true(isRange('HEAD~3..'));
  for (const spec of ['a...b', '../x', './a..b', 'plain', '--all..x', '/tmp/a']) t.false(isRange(spec), spec);
});

test('range: commits of a tree become patches, with the commit that they start from', async (t) => {
  const tree = await makeFakeKernel(join(dir, 'tree'));
  const git = (...args: string[]) =>
    execOrFail('git', ['-C', tree, '-c', 'user.name=Ä', '-c', 'user.email=a@example.org', ...args]);
  await git('init', '-q', '-b', 'main');
  await git('add', '.');
  await git('commit', '-qm', 'base');
  const base = (await git('rev-parse', 'HEAD')).stdout.trim();
  for (const line of [5, 20]) {
    const text = fakeFile.replace(`line_${line};`, `changed_${line}; /* \xfc */`);
    await writeFile(join(tree, 'fs/fuse/file.c'), Buffer.from(text, 'latin1'));
    await git('commit', '-qam', `fuse: line ${line}`);
  }
  const before = (await git('status', '--porcelain=v2', '--branch')).stdout;
  const loaded = await loadSeries('HEAD~2..', tree, signal);
  t.deepEqual(
    loaded.series.patches.map(({ subject, author }) => [subject, author]),
    [
      ['fuse: line 5', 'Ä <a@example.org>'],
      ['fuse: line 20', 'Ä <a@example.org>'],
    ],
  );
  t.is(loaded.base, base);
  t.true(Buffer.from(loaded.series.patches[0]?.diff ?? []).includes(0xfc), 'bytes survive');
  t.is((await git('status', '--porcelain=v2', '--branch')).stdout, before);

  const none = await t.throwsAsync(loadSeries('HEAD..HEAD', tree, signal), { instanceOf: Failure });
  t.is(none.code, 'E_SERIES_EMPTY');
  const unknown = await t.throwsAsync(loadSeries('nope..HEAD', tree, signal), { instanceOf: Failure });
  t.is(unknown.code, 'E_GIT_REF');
  t.is(unknown.blame, 'user');
});

test('range: what commits say of versions, numbers and years is text, and lines keep their ends', async (t) => {
  const tree = await makeFakeKernel(join(dir, 'odd-commits'));
  const git = (...args: string[]) =>
    execOrFail('git', ['-C', tree, '-c', 'user.name=A', '-c', 'user.email=a@example.org', ...args]);
  await git('init', '-q', '-b', 'main');
  await git('config', 'core.autocrlf', 'false');
  await writeFile(join(tree, 'dos.txt'), 'one\r\ntwo\r\n');
  await git('add', '.');
  await git('commit', '-qm', 'base');
  const messages = ['plain', '[backport v9] fuse: two', 'three\n\nFrom the review of January 2021\nit is.'];
  for (const [at, message] of messages.entries()) {
    await writeFile(join(tree, 'dos.txt'), `one\r\ntwo ${at}\r\n`);
    await git('commit', '-qam', message);
  }
  const { series } = await loadSeries('HEAD~3..', tree, signal);
  t.deepEqual(
    series.patches.map(({ subject }) => subject),
    ['plain', 'fuse: two', 'three'],
  );
  t.is(series.patches[2]?.message, 'From the review of January 2021\nit is.');
  const applied = await applySeries(series, {
    tree: (await cloneAt(tree, 'HEAD~3')).path,
    treeLabel: 'base',
    worktree: join(dir, 'odd-commits-worktree'),
    signal,
    onApplied: () => undefined,
  });
  t.is(await readFile(join(applied.dir, 'dos.txt'), 'latin1'), 'one\r\ntwo 2\r\n');

  async function cloneAt(from: string, commit: string): Promise<{ readonly path: string }> {
    const path = join(dir, 'odd-commits-base');
    await execOrFail('git', ['clone', '-q', from, path]);
    await execOrFail('git', ['-C', path, '-c', 'core.autocrlf=false', 'checkout', '-q', commit]);
    return { path };
  }
});

test('range: merges are refused, because no patch can be one', async (t) => {
  const tree = await makeFakeKernel(join(dir, 'merged'));
  const git = (...args: string[]) =>
    execOrFail('git', ['-C', tree, '-c', 'user.name=A', '-c', 'user.email=a@example.org', ...args]);
  await git('init', '-q', '-b', 'main');
  await git('add', '.');
  await git('commit', '-qm', 'base');
  await git('tag', 'base');
  await writeFile(join(tree, 'one'), '1\n');
  await git('add', '.');
  await git('commit', '-qm', 'one');
  await git('checkout', '-q', '-b', 'side', 'base');
  await writeFile(join(tree, 'two'), '2\n');
  await git('add', '.');
  await git('commit', '-qm', 'two');
  await git('merge', '-q', '-m', 'both', 'main');
  const failure = await t.throwsAsync(loadSeries('base..side', tree, signal), { instanceOf: Failure });
  t.is(failure.code, 'E_SERIES_MALFORMED');
  t.is(failure.message, 'the range base..side has a merge, which no patch can be');
});

test('load: names of files are shown without what a terminal or a CI would obey', async (t) => {
  const path = await put('x\n::error::pwn\u001b[31m.mbox', fakePatch(5, 'a', '[PATCH] one'));
  t.is((await loadSeries(path, undefined, signal)).series.name, 'x ::error::pwn');
});

test('load: a quilt series file is UTF-8', async (t) => {
  await put('utf8/series', 'größe.patch\n');
  await put('utf8/größe.patch', fakePatch(5, 'b', '[PATCH] b'));
  t.deepEqual(await subjects(join(dir, 'utf8')), ['1 b']);
});
