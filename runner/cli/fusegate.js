#!/usr/bin/env node
// The first file that runs, in syntax that any Node of the last years understands: what comes after it needs
// the pinned one.
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import module from 'node:module';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const MAJOR = 24;
const MINOR = 12;

const here = dirname(fileURLToPath(import.meta.url));
const pinned = join(here, '..', '..', 'node_modules', '.bin', 'node');

/** As `cacheDir('compiled')` has it, which cannot be loaded yet. */
function compiled() {
  const { FUSEGATE_CACHE, XDG_CACHE_HOME } = process.env;
  // Empty is unset, as for the shell.
  return join(FUSEGATE_CACHE || join(XDG_CACHE_HOME || join(homedir(), '.cache'), 'fusegate'), 'compiled');
}

function isNewEnough(version) {
  const [major, minor] = version.split('.').map(Number);
  return major > MAJOR || (major === MAJOR && minor >= MINOR);
}

function refuse() {
  process.stderr.write(
    `fusegate: E_NODE_TOO_OLD: fusegate needs Node ${MAJOR}.${MINOR} or newer, not ${process.versions.node}\n` +
      '    hint: run `make setup`: it installs the pinned Node for this checkout\n',
  );
  process.exitCode = 3;
}

/** The pinned Node does the work; signals that the terminal does not send to it by itself are passed on. */
function runWithPinned() {
  const child = spawn(pinned, [fileURLToPath(import.meta.url), ...process.argv.slice(2)], {
    stdio: 'inherit',
    env: { ...process.env, FUSEGATE_NODE: 'pinned' },
  });
  process.on('SIGINT', () => {});
  process.on('SIGTERM', () => child.kill('SIGTERM'));
  process.on('SIGHUP', () => child.kill('SIGHUP'));
  child.on('error', refuse);
  child.on('exit', (code, signal) => {
    process.exitCode = code === null ? 128 + (signal === 'SIGKILL' ? 9 : 15) : code;
  });
}

if (isNewEnough(process.versions.node)) {
  // Without it each start compiles everything and strips the types, which takes a second and 20 MB. Not for
  // `clean`, which would leave a new cache behind, and in a directory that it refuses to touch as well.
  if (!process.argv.includes('clean')) module.enableCompileCache(compiled());
  const { main } = await import('./main.ts');
  await main(process.argv.slice(2));
} else if (process.env.FUSEGATE_NODE !== 'pinned' && existsSync(pinned)) {
  runWithPinned();
} else {
  refuse();
}
