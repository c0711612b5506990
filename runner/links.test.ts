import { access, glob, readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import test from 'ava';
import { projectRoot } from './lib/paths.ts';

const pages = (
  await Array.fromAsync(glob(['*.md', '{docs,kernel,rootfs,runner,suites}/**/*.md'], { cwd: projectRoot }))
).sort();

/** Targets of a page's links that are files of the project. */
function localLinks(text: string): readonly string[] {
  return [...text.matchAll(/\]\(([^)\s#]+)(?:#[^)]*)?\)/g)]
    .map(([, target = '']) => target)
    .filter((target) => !/^[a-z]+:/.test(target));
}

test('links: every page that a page of the documentation leads to is there', async (t) => {
  t.true(pages.includes('README.md'));
  const dead: string[] = [];
  for (const page of pages) {
    for (const target of localLinks(await readFile(join(projectRoot, page), 'utf8'))) {
      const isThere = await access(join(projectRoot, dirname(page), target)).then(
        () => true,
        () => false,
      );
      if (!isThere) dead.push(`${page} → ${target}`);
    }
  }
  t.deepEqual(dead, []);
});

test('links: what the README tells people to make can be made', async (t) => {
  const readme = await readFile(join(projectRoot, 'README.md'), 'utf8');
  const makefile = await readFile(join(projectRoot, 'Makefile'), 'utf8');
  const told = new Set([...readme.matchAll(/(?:^|`)make ([a-z]+)/gm)].map(([, target = '']) => target));
  const targets = new Set([...makefile.matchAll(/^([a-z]+):/gm)].map(([, target = '']) => target));
  t.true(['test', 'check', 'doctor', 'shell', 'clean'].every((target) => told.has(target)));
  const unknown = [...told].filter((target) => !targets.has(target));
  t.deepEqual(unknown, []);
});
