import { mkdir, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { projectRoot } from '#runner/lib/paths.ts';

/** The project with other suites in it; all else is that of the checkout. Disposing removes it. */
export async function makeProject(
  dir: string,
  suites: Readonly<Record<string, string>>,
): Promise<AsyncDisposable> {
  await mkdir(join(dir, 'suites', 'chaos'), { recursive: true });
  for (const name of ['node_modules', 'package.json', 'ava.config.js', 'runner', 'rootfs', 'kernel']) {
    await symlink(join(projectRoot, name), join(dir, name));
  }
  await symlink(join(projectRoot, 'suites', 'lib'), join(dir, 'suites', 'lib'));
  await writeFile(join(dir, 'suites', 'known-failures.json'), '[]\n');
  for (const [name, text] of Object.entries(suites)) {
    await writeFile(join(dir, 'suites', 'chaos', `${name}.test.ts`), text);
  }
  return { [Symbol.asyncDispose]: () => rm(dir, { recursive: true, force: true }) };
}

/** Longer than the flood of in-guest.ts, shorter than a test may take. Milliseconds. */
const LIMIT_MS = 28_000;
const ORDINALS = ['first', 'second', 'third', 'fourth', 'fifth'] as const;

/** Pure: a file of so many tests, of which the `nth` runs a shell command in the guest, those before it another. */
export function suiteText(tests: number, nth: number, inGuest = 'true', before = 'true'): string {
  const command = (at: number): string => (at < nth ? before : at === nth ? inGuest : 'true');
  const body = (at: number): string =>
    `async (t, guest) => { await guest.run(['sh', '-c', ${JSON.stringify(command(at))}], { timeoutMs: ${LIMIT_MS} }); t.pass(); }`;
  return [
    "import { guestTest } from '../lib/guest-test.ts';",
    ...ORDINALS.slice(0, tests).map((title, at) => `guestTest('${title}', ${body(at + 1)});`),
    '',
  ].join('\n');
}
