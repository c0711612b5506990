import { createRequire, registerHooks } from 'node:module';
import { pathToFileURL } from 'node:url';

/** A test that a file declares. */
export interface HeardTest {
  readonly file: string;
  readonly title: string;
}

const LISTENER = 'fusegate:listener';
const SOURCE = `
  const { tests, now } = globalThis.fusegateHeard;
  const hear = (title) => { if (typeof title === 'string') tests.push({ file: now.file, title }); };
  const meta = { get file() { return now.url; } };
  const test = new Proxy(hear, { get: (_, name) => (name === 'meta' ? meta : test) });
  export default test;
`;

/** AVA's own, so that both agree; found before its name is the listener's. */
const ava = createRequire(import.meta.url).resolve('ava');
const matcher = createRequire(ava).resolve('matcher');

/**
 * The tests that the files declare, in their order. The files are loaded with an AVA that only listens: nothing
 * runs. For programs of their own: from then on `ava` is the listener in the whole process.
 */
export async function hearTitles(files: readonly string[]): Promise<readonly HeardTest[]> {
  const tests: HeardTest[] = [];
  const now = { file: '', url: '' };
  Object.assign(globalThis, { fusegateHeard: { tests, now } });
  registerHooks({
    resolve: (specifier, context, next) =>
      specifier === 'ava' ? { url: LISTENER, shortCircuit: true } : next(specifier, context),
    load: (url, context, next) =>
      url === LISTENER ? { format: 'module', source: SOURCE, shortCircuit: true } : next(url, context),
  });
  for (const file of files) {
    Object.assign(now, { file, url: pathToFileURL(file).href });
    await import(now.url);
  }
  return tests;
}

interface Matcher {
  readonly isMatch: (title: string, patterns: readonly string[]) => boolean;
}

/** Whether AVA's `--match` would select a title. */
export async function titleMatcher(): Promise<Matcher['isMatch']> {
  return ((await import(pathToFileURL(matcher).href)) as Matcher).isMatch;
}
