import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { projectRoot } from '#runner/lib/paths.ts';

/** A project of its own in a temporary directory with the real AVA and the real observer, for tests. */
export interface FakeProject extends AsyncDisposable {
  readonly dir: string;
  readonly log: string;
}

/** `files`: path below the project → content. `timeout`: AVA's idle clock. */
export async function fakeProject(
  files: Readonly<Record<string, string>>,
  timeout = '1m',
): Promise<FakeProject> {
  const dir = await mkdtemp(join(tmpdir(), 'fusegate-fixture-'));
  await symlink(join(projectRoot, 'node_modules'), join(dir, 'node_modules'));
  const config = `import base from ${JSON.stringify(join(projectRoot, 'ava.config.js'))};
export default { ...base, timeout: ${JSON.stringify(timeout)} };
`;
  const all = { 'package.json': '{ "type": "module" }', 'ava.config.js': config, ...files };
  for (const [path, content] of Object.entries(all)) {
    await mkdir(dirname(join(dir, path)), { recursive: true });
    await writeFile(join(dir, path), content);
  }
  return {
    dir,
    log: join(dir, 'ava.log'),
    [Symbol.asyncDispose]: () => rm(dir, { recursive: true, force: true }),
  };
}
