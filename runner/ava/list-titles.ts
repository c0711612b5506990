import { hearTitles } from './hear-titles.ts';

/** `node list-titles.ts FILE...`: prints the tests that the files declare, as JSON: `[{ file, title }]`. */
process.stdout.write(`${JSON.stringify(await hearTitles(process.argv.slice(2)))}\n`);
