import { glob, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { projectRoot } from './lib/paths.ts';

/** Codes as the sources write them: string literals of programs, first words of messages of shell scripts. */
const LITERAL = /\bE_[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)*\b/g;

async function codesInSources(): Promise<Map<string, string>> {
  const found = new Map<string, string>();
  const sources = glob('{kernel,rootfs,runner,suites}/**/*.{ts,js,sh}', {
    cwd: projectRoot,
    exclude: ['**/*.test.ts', '**/testdata/**'],
  });
  for await (const file of sources) {
    const text = await readFile(join(projectRoot, file), 'utf8');
    for (const [code] of text.matchAll(LITERAL)) found.set(code, file);
  }
  return found;
}

const page = await readFile(join(projectRoot, 'docs/errors.md'), 'utf8');
const headings = [...page.matchAll(/^### (E_\w+)$/gm)].map(([, code = '']) => code);

test('errors: docs/errors.md has a heading for every code in the sources', async (t) => {
  const codes = await codesInSources();
  t.true(codes.size > 0);
  const missing = [...codes].filter(([code]) => !headings.includes(code));
  t.deepEqual(missing, []);
});

test('errors: docs/errors.md has no heading for a code that nothing says', async (t) => {
  const codes = await codesInSources();
  t.deepEqual(
    headings.filter((code) => !codes.has(code)),
    [],
  );
});

test('errors: headings are unique and in order', (t) => {
  t.deepEqual(headings, [...new Set(headings)].sort());
});

test('errors: every code says what to do', (t) => {
  const sections = page.split(/^### /m).slice(1);
  const silent = sections.filter((section) => !/^\*\*Do:\*\* \S/m.test(section));
  t.deepEqual(silent, []);
});
