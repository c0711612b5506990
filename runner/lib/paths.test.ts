import { homedir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { cacheDir } from './paths.ts';

const NAMES = ['FUSEGATE_CACHE', 'XDG_CACHE_HOME'] as const;

/** Where the cache is with this environment. */
function cacheWith(environment: Partial<Record<(typeof NAMES)[number], string>>): string {
  const before = { ...process.env };
  try {
    for (const name of NAMES) {
      const value = environment[name];
      if (value === undefined) Reflect.deleteProperty(process.env, name);
      else process.env[name] = value;
    }
    return cacheDir('states');
  } finally {
    for (const name of NAMES) {
      if (before[name] === undefined) Reflect.deleteProperty(process.env, name);
      else process.env[name] = before[name];
    }
  }
}

test('paths: where the cache is', (t) => {
  t.is(cacheWith({ FUSEGATE_CACHE: '/c', XDG_CACHE_HOME: '/x' }), '/c/states');
  t.is(cacheWith({ XDG_CACHE_HOME: '/x' }), '/x/fusegate/states');
  t.is(cacheWith({}), join(homedir(), '.cache/fusegate/states'));
});

test('paths: a variable that is empty is one that is not set', (t) => {
  t.is(cacheWith({ FUSEGATE_CACHE: '', XDG_CACHE_HOME: '/x' }), '/x/fusegate/states');
  t.is(cacheWith({ FUSEGATE_CACHE: '', XDG_CACHE_HOME: '' }), join(homedir(), '.cache/fusegate/states'));
});
