import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { execOrFail } from '#runner/lib/exec.ts';
import { Failure } from '#runner/lib/failure.ts';
import { makeFakeKernel } from '../testdata/fake-kernel.ts';
import { localSource } from './local-tree.ts';

const dir = await mkdtemp(join(tmpdir(), 'fusegate-local-tree-'));
process.env['FUSEGATE_CACHE'] = join(dir, 'cache');
const context = { emit: () => undefined, signal: new AbortController().signal };

test.after.always(() => rm(dir, { recursive: true, force: true }));

async function repository(name: string): Promise<{
  readonly tree: string;
  readonly git: (...args: readonly string[]) => Promise<unknown>;
}> {
  const tree = await makeFakeKernel(join(dir, name));
  const git = (...args: readonly string[]): Promise<unknown> =>
    execOrFail('git', ['-C', tree, '-c', 'user.name=A', '-c', 'user.email=a@example.org', ...args]);
  await git('init', '-q', '-b', 'main');
  await git('add', '.');
  await git('commit', '-qm', 'base');
  return { tree, git };
}

test('local tree: what is changed and not committed is built, unless a commit is named', async (t) => {
  const { tree } = await repository('changed');
  await writeFile(join(tree, 'fs/fuse/dir.c'), 'int changed;\n');
  const asItStands = await localSource(tree, undefined, context);
  t.is(await readFile(join(asItStands.dir, 'fs/fuse/dir.c'), 'utf8'), 'int changed;\n');
  const committed = await localSource(tree, 'main', context);
  t.is(await readFile(join(committed.dir, 'fs/fuse/dir.c'), 'utf8'), 'int dir;\n');
  t.not(asItStands.id, committed.id);
});

test('local tree: an index that git cannot read is said, and nothing is left out in silence', async (t) => {
  const { tree } = await repository('broken-index');
  await writeFile(join(tree, 'fs/fuse/dir.c'), 'int changed;\n');
  await writeFile(join(tree, '.git/index'), 'no index');
  const failure = await t.throwsAsync(localSource(tree, undefined, context), { instanceOf: Failure });
  t.is(failure.code, 'E_GIT_REF');
  t.is(failure.blame, 'user');
  t.regex(failure.hint ?? '', /index file/);
});

test('local tree: lines have the ends of the repository, whatever the user likes in a working tree', async (t) => {
  const { tree, git } = await repository('line-ends');
  await git('config', 'core.autocrlf', 'true');
  await git('config', 'core.eol', 'crlf');
  const { dir: snapshot } = await localSource(tree, 'main', context);
  t.is(await readFile(join(snapshot, 'fs/fuse/dir.c'), 'utf8'), 'int dir;\n');
});
