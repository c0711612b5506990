import { readFile, glob } from 'node:fs/promises';
import { isBuiltin } from 'node:module';
import { basename, dirname, join, matchesGlob, normalize } from 'node:path';
import test from 'ava';
import ts from 'typescript';
import { projectRoot } from './lib/paths.ts';

interface Layer {
  readonly prefix: string;
  readonly projectFiles: readonly string[];
  readonly packages: readonly string[];
}

// The formatter pads the cells of tables.
const architecture = (await readFile(join(projectRoot, 'docs/ARCHITECTURE.md'), 'utf8')).replaceAll(
  / +/g,
  ' ',
);
const layers: readonly Layer[] = table('| files | project files | packages |').map(
  ([files = [], projectFiles = [], packages = []]) => ({ prefix: files[0] ?? '', projectFiles, packages }),
);
const confined = table('| package | only in |').map(([name = [], places = []]) => ({
  name: name[0] ?? '',
  places,
}));
const files = (
  await Array.fromAsync(
    glob('{kernel,rootfs,runner,suites}/**/*.ts', { cwd: projectRoot, exclude: ['**/testdata/**'] }),
  )
).sort();

/** The rows below that header, each cell as the words in back quotes that it has. */
function table(header: string): readonly (readonly (readonly string[])[])[] {
  const after = architecture.slice(architecture.indexOf(header)).split('\n').slice(2);
  const end = after.findIndex((line) => !line.startsWith('|'));
  return after.slice(0, end).map((row) =>
    row
      .split('|')
      .slice(1, -1)
      .map((cell) => [...cell.matchAll(/`([^`]+)`/g)].map(([, word = '']) => word)),
  );
}

function isBelow(file: string, prefix: string): boolean {
  return file === prefix || file.startsWith(`${prefix}/`);
}

function layerOf(file: string): Layer | undefined {
  return layers
    .filter(({ prefix }) => isBelow(file, prefix))
    .sort((a, b) => b.prefix.length - a.prefix.length)[0];
}

/** Path below the project's root for its own files, `undefined` for a package. */
function projectFile(from: string, specifier: string): string | undefined {
  if (specifier.startsWith('#')) return specifier.slice(1);
  if (specifier.startsWith('.')) return normalize(join(dirname(from), specifier));
  return undefined;
}

async function importsOf(file: string): Promise<readonly string[]> {
  const source = await readFile(join(projectRoot, file), 'utf8');
  return ts.preProcessFile(source, true, true).importedFiles.map(({ fileName }) => fileName);
}

/** What is wrong with one import, or `undefined`. */
function objection(from: string, specifier: string): string | undefined {
  const layer = layerOf(from);
  if (layer === undefined) return `${from}: docs/ARCHITECTURE.md has no row for it`;
  const target = projectFile(from, specifier);
  if (target === undefined) {
    // Unit tests use what tests use; the suites are what is tested, and have rules of their own.
    const named =
      (from.endsWith('.test.ts') && layer.prefix !== 'suites') ||
      layer.packages.includes('any') ||
      layer.packages.some((name) => matches(specifier, name));
    return named ? undefined : `${from}: ${layer.prefix} must not import the package ${specifier}`;
  }
  const targetLayer = layerOf(target)?.prefix;
  const allowed =
    targetLayer === layer.prefix ||
    layer.projectFiles.some((place) => place === target || place === targetLayer);
  return allowed ? undefined : `${from}: ${layer.prefix} must not import ${target}`;
}

function matches(specifier: string, name: string): boolean {
  return name === 'node:*' ? specifier.startsWith('node:') && isBuiltin(specifier) : specifier === name;
}

test('layers: every import is one that docs/ARCHITECTURE.md allows', async (t) => {
  t.true(layers.length >= 8, 'the table was read');
  t.true(files.length > 10, 'the sources were found');
  const objections: string[] = [];
  for (const file of files) {
    for (const specifier of await importsOf(file)) {
      const found = objection(file, specifier);
      if (found !== undefined) objections.push(found);
    }
  }
  t.deepEqual(objections, []);
});

test('layers: koffi and ssh2 are imported only where docs/ARCHITECTURE.md says', async (t) => {
  t.deepEqual(
    confined.map(({ name }) => name),
    ['koffi', 'ssh2'],
  );
  const strays: string[] = [];
  for (const file of files) {
    const imports = await importsOf(file);
    for (const { name, places } of confined) {
      if (imports.includes(name) && !places.some((place) => matchesGlob(file, place))) {
        strays.push(`${file} imports ${name}`);
      }
    }
  }
  t.deepEqual(strays, []);
});

test('layers: imports name files that are there', async (t) => {
  const missing: string[] = [];
  for (const file of files) {
    for (const specifier of await importsOf(file)) {
      const target = projectFile(file, specifier);
      if (target === undefined || files.includes(target) || target.includes('testdata/')) continue;
      if (!target.endsWith('.json') && !target.endsWith('.js')) missing.push(`${file}: ${specifier}`);
    }
  }
  t.deepEqual(missing, []);
});

test('layers: file names say what is inside', (t) => {
  const idle = new Set(['utils', 'util', 'helpers', 'helper', 'common', 'misc', 'types', 'index', 'shared']);
  const bad = files.filter((file) => {
    const stem = basename(file).replace(/(\.test)?\.ts$/, '');
    return idle.has(stem) || !/^[a-z0-9]+(-[a-z0-9]+)*$/.test(stem);
  });
  t.deepEqual(bad, []);
});

test('layers: the rule refuses what it is there to refuse', (t) => {
  const refused: readonly (readonly [string, string])[] = [
    ['runner/lib/exec.ts', '#kernel/kernel-image.ts'],
    ['kernel/build/make.ts', '#runner/machine/machine.ts'],
    ['rootfs/protocol/rpc.ts', 'node:fs'],
    ['rootfs/daemon/main.ts', '#runner/lib/exec.ts'],
    ['runner/guest/ssh.ts', '#rootfs/daemon/main.ts'],
    ['suites/passthrough-io/read.test.ts', '#rootfs/protocol/rpc.ts'],
    ['suites/passthrough-io/read.test.ts', 'execa'],
    ['suites/lib/guest.ts', '#runner/machine/machine.ts'],
  ];
  for (const [from, specifier] of refused)
    t.not(objection(from, specifier), undefined, `${from} ← ${specifier}`);
  const allowed: readonly (readonly [string, string])[] = [
    ['runner/cli/main.ts', '../guest/ssh.ts'],
    ['suites/passthrough-io/read.test.ts', '../lib/guest.ts'],
    ['suites/lib/guest.ts', '#runner/lease/messages.ts'],
    ['kernel/build/make.ts', '#runner/lib/exec.ts'],
  ];
  for (const [from, specifier] of allowed)
    t.is(objection(from, specifier), undefined, `${from} ← ${specifier}`);
});
