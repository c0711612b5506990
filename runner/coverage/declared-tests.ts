import { globSync } from 'node:fs';
import { join } from 'node:path';
import { testId } from '#runner/ava/test-id.ts';
import { execOrFail } from '#runner/lib/exec.ts';
import { projectRoot } from '#runner/lib/paths.ts';

/** Ids of all tests of the suites, in the order of their files. The files are loaded, and nothing runs. */
export async function declaredTests(root: string = projectRoot): Promise<readonly string[]> {
  const files = globSync('suites/**/*.test.ts', { cwd: root })
    .filter((file) => !file.startsWith('suites/lib/'))
    .toSorted()
    .map((file) => join(root, file));
  const program = join(import.meta.dirname, '..', 'ava', 'list-titles.ts');
  const { stdout } = await execOrFail(process.execPath, [program, ...files], { cwd: root });
  const heard = JSON.parse(stdout) as readonly { readonly file: string; readonly title: string }[];
  return heard.map(({ file, title }) => testId(join(root, 'suites'), file, title).id);
}
