import { hearTitles, titleMatcher } from './hear-titles.ts';

/**
 * `node count-titles.ts '["PATTERN"]' FILE...`: prints how many of the tests that the files declare have a title
 * that AVA would select.
 */
const [patterns = '[]', ...files] = process.argv.slice(2);
const isMatch = await titleMatcher();
const wanted = JSON.parse(patterns) as readonly string[];
const tests = await hearTitles(files);
process.stdout.write(`${tests.filter(({ title }) => isMatch(title, wanted)).length}\n`);
