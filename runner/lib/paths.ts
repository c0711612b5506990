import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** Root of the checkout. */
export const projectRoot = dirname(dirname(dirname(fileURLToPath(import.meta.url))));

/**
 * Everything that outlives a run: sources, build trees, kernel and guest images, tools, run records.
 * `FUSEGATE_CACHE` moves it; otherwise the XDG base directory specification decides. What is empty is unset.
 */
export function cacheDir(...below: readonly string[]): string {
  const root = set('FUSEGATE_CACHE') ?? join(set('XDG_CACHE_HOME') ?? join(homedir(), '.cache'), 'fusegate');
  return join(root, ...below);
}

function set(name: string): string | undefined {
  const value = process.env[name];
  return value === '' ? undefined : value;
}
