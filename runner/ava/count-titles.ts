import { createRequire, registerHooks } from 'node:module';
import { pathToFileURL } from 'node:url';

/**
 * `node count-titles.ts '["PATTERN"]' FILE...`: prints how many of the tests that the files declare have a title
 * that AVA would select. The files are loaded with an AVA that only listens: nothing runs.
 */
const [patterns = '[]', ...files] = process.argv.slice(2);
const heard = { titles: [] as string[], file: '' };

const LISTENER = 'fusegate:listener';
const source = `
  const hear = (title) => { if (typeof title === 'string') heard.titles.push(title); };
  const heard = globalThis.fusegateHeard;
  const meta = { get file() { return heard.file; } };
  const test = new Proxy(hear, { get: (_, name) => (name === 'meta' ? meta : test) });
  export default test;
`;
Object.assign(globalThis, { fusegateHeard: heard });

interface Matcher {
  readonly isMatch: (title: string, patterns: readonly string[]) => boolean;
}

// AVA's own, so that both agree; found before the name is the listener's.
const ava = createRequire(import.meta.url).resolve('ava');
const { isMatch } = (await import(pathToFileURL(createRequire(ava).resolve('matcher')).href)) as Matcher;
registerHooks({
  resolve: (specifier, context, next) => {
    return specifier === 'ava' ? { url: LISTENER, shortCircuit: true } : next(specifier, context);
  },
  load: (url, context, next) => {
    return url === LISTENER ? { format: 'module', source, shortCircuit: true } : next(url, context);
  },
});

for (const file of files) {
  heard.file = pathToFileURL(file).href;
  await import(heard.file);
}
process.stdout.write(
  `${heard.titles.filter((title) => isMatch(title, JSON.parse(patterns) as string[])).length}\n`,
);
