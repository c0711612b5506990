import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Failure } from '#runner/lib/failure.ts';
import { projectRoot } from '#runner/lib/paths.ts';
import { type Fragment, parseKconfig } from './kconfig.ts';

const fragmentsDir = join(projectRoot, 'kernel', 'config', 'fragments');

/** @throws Failure E_CONFIG_NOT_FOUND (user) for a profile that names a fragment that is not there. */
export async function profileFragments(names: readonly string[]): Promise<readonly Fragment[]> {
  return Promise.all(names.map((name) => load(join(fragmentsDir, `${name}.config`), `${name}.config`)));
}

/** Fragments of the user's own, by path. @throws Failure E_CONFIG_NOT_FOUND (user). */
export async function ownFragments(paths: readonly string[]): Promise<readonly Fragment[]> {
  return Promise.all(paths.map((path) => load(path, path)));
}

async function load(path: string, name: string): Promise<Fragment> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (cause) {
    throw new Failure('E_CONFIG_NOT_FOUND', 'user', `the config fragment ${path} cannot be read`, {
      hint: 'a fragment is a text file with CONFIG_ lines',
      cause,
    });
  }
  return parseKconfig(text, name);
}
