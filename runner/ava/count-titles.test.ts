import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { execOrFail } from '#runner/lib/exec.ts';

const dir = await mkdtemp(join(tmpdir(), 'fusegate-titles-'));
test.after.always(() => rm(dir, { recursive: true, force: true }));

const FILE = `import test from 'ava';
for (const name of ['ext4', 'tmpfs']) test.serial(\`reads from \${name} (A1)\`, () => { throw new Error('ran'); });
test('writes', () => { throw new Error('ran'); });
test.skip('writes later', () => undefined);
`;

async function count(...patterns: readonly string[]): Promise<string> {
  const file = join(dir, 'titles.test.ts');
  await writeFile(file, FILE);
  const program = join(import.meta.dirname, 'count-titles.ts');
  return (await execOrFail(process.execPath, [program, JSON.stringify(patterns), file])).stdout.trim();
}

test('titles: patterns select as AVA’s do, and nothing runs', async (t) => {
  t.is(await count('reads from*'), '2');
  t.is(await count('writes'), '1');
  t.is(await count('*writes*', '*(A1)'), '4');
  t.is(await count('*', '!writes*'), '2');
  t.is(await count('reads'), '0');
  t.is(await count(String.raw`reads from \* (A1)`), '0');
});
