import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import test from 'ava';
import { changeLastLine } from './one-object-change.ts';

test('bench change: git applies the patch and gets the contents', async (t) => {
  const dir = await mkdtemp(join(tmpdir(), 'bench-change-'));
  t.teardown(() => rm(dir, { recursive: true }));
  for (const before of ['int a;\n', 'int a;\n\nint b(void)\n{\n\treturn 1;\n}\n']) {
    const change = changeLastLine(before, 'r1');
    const target = join(dir, change.file);
    await mkdir(dirname(target), { recursive: true });
    await writeFile(target, before);
    await writeFile(join(dir, 'change.patch'), change.patch);
    await promisify(execFile)('git', ['apply', 'change.patch'], { cwd: dir });
    t.is(await readFile(target, 'utf8'), change.contents);
  }
});

test('bench change: another mark gives another object', (t) => {
  t.not(changeLastLine('int a;\n', 'r1').contents, changeLastLine('int a;\n', 'r2').contents);
});
