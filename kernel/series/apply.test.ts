import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { Failure } from '#runner/lib/failure.ts';
import { fakeFile, fakePatch, makeFakeKernel } from '../testdata/fake-kernel.ts';
import { applySeries } from './apply.ts';
import { parseMbox } from './mbox.ts';
import type { Series } from './series.ts';

const dir = await mkdtemp(join(tmpdir(), 'fusegate-apply-'));
const tree = await makeFakeKernel(join(dir, 'tree'));
test.after.always(() => rm(dir, { recursive: true, force: true }));

let count = 0;
function apply(series: Series, applied: string[] = []) {
  count += 1;
  const worktree = join(dir, `worktree-${count}`);
  return applySeries(series, {
    tree,
    treeLabel: 'linux 6.12.1',
    worktree,
    signal: new AbortController().signal,
    onApplied: (patch) => applied.push(patch.subject),
  });
}

test('apply: patches follow one another, and the tree itself stays as it is', async (t) => {
  const applied: string[] = [];
  const mbox =
    fakePatch(5, 'int five;', '[PATCH 1/2] five') + fakePatch(20, 'int twenty;', '[PATCH 2/2] twenty');
  const patched = await apply(parseMbox(mbox, 's'), applied);
  t.deepEqual(applied, ['five', 'twenty']);
  t.deepEqual(patched.files, ['fs/fuse/file.c']);
  const text = await readFile(join(patched.dir, 'fs/fuse/file.c'), 'utf8');
  t.true(text.includes('int five;') && text.includes('int twenty;'));
  t.is(await readFile(join(tree, 'fs/fuse/file.c'), 'utf8'), fakeFile);
});

test('apply: new, deleted and renamed files are known', async (t) => {
  const diff = [
    'diff --git a/fs/fuse/new.c b/fs/fuse/new.c\nnew file mode 100644\n--- /dev/null\n+++ b/fs/fuse/new.c\n@@ -0,0 +1 @@\n+int n;\n',
    'diff --git a/fs/fuse/dir.c b/fs/fuse/dir.c\ndeleted file mode 100644\n--- a/fs/fuse/dir.c\n+++ /dev/null\n@@ -1 +0,0 @@\n-int dir;\n',
    'diff --git a/include/fuse.h b/include/wire.h\nsimilarity index 100%\nrename from include/fuse.h\nrename to include/wire.h\n',
  ].join('');
  const patched = await apply(parseMbox(`Subject: [PATCH] x\n\n---\n${diff}`, 's'));
  t.deepEqual(patched.files, ['fs/fuse/dir.c', 'fs/fuse/new.c', 'include/fuse.h', 'include/wire.h']);
  t.false(existsSync(join(patched.dir, 'fs/fuse/dir.c')));
  t.false(existsSync(join(patched.dir, 'include/fuse.h')));
  t.is(await readFile(join(patched.dir, 'include/wire.h'), 'utf8'), '#define FUSE 1\n');
});

test('apply: a conflict names patch, file and hunk, and keeps the worktree with what is left over', async (t) => {
  const applied: string[] = [];
  const wrong = fakePatch(20, 'int x;', '[PATCH 2/2] twenty').replace('-int line_20;', '-int other;');
  const series = parseMbox(fakePatch(5, 'int five;', '[PATCH 1/2] five') + wrong, 's');
  const failure = await t.throwsAsync(apply(series, applied), { instanceOf: Failure });
  t.is(failure.code, 'E_SERIES_CONFLICT');
  t.is(failure.blame, 'series');
  t.is(
    failure.message,
    'patch 2/2 (twenty) does not apply to linux 6.12.1: fs/fuse/file.c, hunk 1 of 1: @@ -19,3 +19,3 @@ (line 4 of its diff)',
  );
  t.deepEqual(applied, ['five']);
  const worktree = failure.evidence.find(({ label }) => label.startsWith('worktree'))?.path ?? '';
  t.true((await readFile(join(worktree, 'fs/fuse/file.c'), 'utf8')).includes('int five;'));
  t.true((await readFile(join(worktree, 'fs/fuse/file.c.rej'), 'utf8')).includes('-int other;'));
});

test('apply: a patch that is in the tree already is called that', async (t) => {
  const backwards = fakePatch(5, 'int line_5;').replace('-int line_5;', '-int before;');
  const failure = await t.throwsAsync(apply(parseMbox(backwards, 's')), { instanceOf: Failure });
  t.regex(failure.hint ?? '', /in linux 6\.12\.1 already: drop the patch/);
});

test('apply: a file that is not in the tree is named', async (t) => {
  const missing = fakePatch(5, 'int five;').replaceAll('fs/fuse/file.c', 'fs/fuse/passthrough.c');
  const failure = await t.throwsAsync(apply(parseMbox(missing, 's')), { instanceOf: Failure });
  t.regex(failure.message, /fs\/fuse\/passthrough\.c is not in the tree/);
});

test('apply: a worktree below a git repository is not taken for part of it', async (t) => {
  await mkdir(join(dir, 'repository'), { recursive: true });
  const { execOrFail } = await import('#runner/lib/exec.ts');
  await execOrFail('git', ['init', '-q', join(dir, 'repository')]);
  const patched = await applySeries(parseMbox(fakePatch(5, 'int five;'), 's'), {
    tree,
    treeLabel: 'x',
    worktree: join(dir, 'repository', 'out', 'worktree'),
    signal: new AbortController().signal,
    onApplied: () => undefined,
  });
  t.true((await readFile(join(patched.dir, 'fs/fuse/file.c'), 'utf8')).includes('int five;'));
});

test('apply: bytes that are no UTF-8 arrive as they are', async (t) => {
  await writeFile(join(tree, 'latin1.c'), Buffer.from('// \xfcber\n', 'latin1'));
  const diff = 'Subject: x\n\n--- a/latin1.c\n+++ b/latin1.c\n@@ -1 +1 @@\n-// \xfcber\n+// \xfcber \xe4\n';
  const patched = await apply(parseMbox(diff, 's'));
  t.deepEqual(await readFile(join(patched.dir, 'latin1.c')), Buffer.from('// \xfcber \xe4\n', 'latin1'));
});

const link = (mode: string): string =>
  `diff --git a/fs/link b/fs/link\n${mode}--- /dev/null\n+++ b/fs/link\n${mode === '' ? 'new file mode 120000\n' : ''}@@ -0,0 +1 @@\n+/etc/passwd\n\\ No newline at end of file\n`;

for (const [how, diff] of [
  ['with a zero before its mode', link('new file mode 0120000\n')],
  ['with a blank after its mode', link('new file mode 120000 \n')],
] as const) {
  test(`apply: a symbolic link ${how} is refused, and nothing is left that leads out`, async (t) => {
    const failure = await t.throwsAsync(apply(parseMbox(`Subject: [PATCH] x\n\n---\n${diff}`, 's')), {
      instanceOf: Failure,
    });
    t.is(failure.code, 'E_SERIES_UNSAFE_PATH');
    t.is(failure.message, 'patch 1 (x) makes fs/link something other than a plain file');
    t.false(existsSync(join(dir, `worktree-${count}`, 'fs/link')));
  });
}

test('apply: a file below what is a file in the tree is a conflict', async (t) => {
  const diff =
    'diff --git a/fs/fuse/file.c/x b/fs/fuse/file.c/x\nnew file mode 100644\n--- /dev/null\n+++ b/fs/fuse/file.c/x\n@@ -0,0 +1 @@\n+int x;\n';
  const failure = await t.throwsAsync(apply(parseMbox(`Subject: [PATCH] x\n\n---\n${diff}`, 's')), {
    instanceOf: Failure,
  });
  t.is(failure.code, 'E_SERIES_CONFLICT');
});
