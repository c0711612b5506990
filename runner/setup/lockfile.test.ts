import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { projectRoot } from '#runner/lib/paths.ts';

interface Entry {
  readonly integrity?: string;
  readonly resolved?: string;
  readonly dependencies?: Record<string, string>;
  readonly optionalDependencies?: Record<string, string>;
}
interface Lockfile {
  readonly lockfileVersion: number;
  readonly packages: Record<string, Entry>;
}

const lockfile = JSON.parse(await readFile(join(projectRoot, 'package-lock.json'), 'utf8')) as Lockfile;
const entries = Object.entries(lockfile.packages);

/** As Node looks a package up: in its own node_modules first, then in those of the folders above. */
function isLocked(from: string, name: string): boolean {
  const parts = from === '' ? [] : from.split('/node_modules/');
  return parts
    .map((_, depth) => `${parts.slice(0, depth + 1).join('/node_modules/')}/node_modules/${name}`)
    .concat(`node_modules/${name}`)
    .some((place) => place in lockfile.packages);
}

test('lockfile: every dependency has its entry, those of other platforms too, or npm ci refuses it', (t) => {
  const missing = entries.flatMap(([place, { dependencies, optionalDependencies }]) =>
    Object.keys({ ...dependencies, ...optionalDependencies })
      .filter((name) => !isLocked(place, name))
      .map((name) => `${place}: ${name}`),
  );
  t.deepEqual(missing, []);
});

test('lockfile: every package is pinned by a hash and none by an address', (t) => {
  const packages = entries.filter(([place]) => place !== '');
  t.true(packages.length > 100);
  t.deepEqual(
    packages.filter(([, { integrity }]) => integrity === undefined).map(([place]) => place),
    [],
  );
  t.deepEqual(
    packages.filter(([, { resolved }]) => resolved !== undefined).map(([place]) => place),
    [],
  );
});

test('lockfile: npm 7 and newer read its format', (t) => {
  t.is(lockfile.lockfileVersion, 3);
});
