import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { Failure } from '#runner/lib/failure.ts';
import type { Config, Options } from './config.ts';
import { resolveConfig } from './config.ts';

const dir = await mkdtemp(join(tmpdir(), 'fusegate-config-'));
await mkdir(join(dir, 'suites', 'ioctl-misuse'), { recursive: true });
await mkdir(join(dir, 'suites', 'lib'));
await writeFile(join(dir, 'suites', 'ioctl-misuse', 'backing-open.test.ts'), '');
await writeFile(join(dir, 'bzImage'), '');

test.after.always(() => rm(dir, { recursive: true, force: true }));

test('config: defaults', (t) => {
  t.deepEqual(resolve({}), {
    profile: 'default-1',
    series: null,
    patches: null,
    tree: null,
    base: null,
    kernel: null,
    fragments: [],
    append: '',
    selection: { files: [], match: [] },
    accelerator: 'auto',
    jobs: 1,
    out: join(dir, 'out', '20260203-040506-default-1'),
    latest: join(dir, 'out', 'latest'),
    keep: false,
    cold: false,
    dumpGuestMemory: false,
    tap: false,
  });
});

test('config: the command line outweighs the environment', (t) => {
  const env = { FUSEGATE_ACCEL: 'kvm', FUSEGATE_JOBS: '3', FUSEGATE_KEEP: 'true', FUSEGATE_SUITE: '' };
  const config = resolve({ accel: 'tcg' }, env);
  t.is(config.accelerator, 'tcg');
  t.is(config.jobs, 3);
  t.true(config.keep);
});

test('config: a place in a series and in a tree', (t) => {
  t.like(resolve({ patches: '0', tree: dir, base: 'v6.12~1' }), { patches: 0, tree: dir, base: 'v6.12~1' });
  for (const patches of ['-1', '1.5', 'all', '', ' ', '0x2', '1e0', true])
    t.throws(() => resolve({ patches }), { message: /^--patches must be/ });
  t.throws(() => resolve({ base: 'v6.12' }), { message: '--base is a commit of the tree that --tree names' });
});

test('config: paths become absolute, ranges stay', (t) => {
  t.is(resolve({ kernel: 'bzImage' }).kernel, join(dir, 'bzImage'));
  t.is(resolve({ series: 'v6.12..mine' }).series, 'v6.12..mine');
  t.is(resolve({ series: 'bzImage' }).series, join(dir, 'bzImage'));
  t.is(resolve({ out: 'here' }).out, join(dir, 'here'));
  t.is(resolve({ out: 'here' }).latest, null);
});

test('config: suites and titles', (t) => {
  t.deepEqual(resolve({ suite: ['ioctl-misuse'], match: ['*x*'] }).selection, {
    files: ['suites/ioctl-misuse'],
    match: ['*x*'],
  });
  const file = 'suites/ioctl-misuse/backing-open.test.ts';
  for (const name of [file, 'ioctl-misuse/backing-open', 'ioctl-misuse/backing-open.test.ts']) {
    t.deepEqual(resolve({ suite: [name] }).selection.files, [file], name);
  }
  t.deepEqual(resolve({ match: ['ioctl-misuse/backing-open: a: b'] }).selection, {
    files: [file],
    match: ['a: b'],
  });
  t.deepEqual(resolve({ match: ['read: a title with a colon'] }).selection, {
    files: [],
    match: ['read: a title with a colon'],
  });
});

const bad: readonly (readonly [Options, RegExp])[] = [
  [{ jobs: '0' }, /^--jobs must be at least 1, not "0"$/],
  [{ jobs: 'many' }, /^--jobs must be a whole number, not "many"$/],
  [{ patches: '' }, /^--patches must be a whole number$/],
  [{ accel: 'hvf' }, /^--accel must be one of auto, kvm, tcg, not "hvf"$/],
  [{ profile: '' }, /^--profile must not be empty/],
  [{ kernel: 'nope' }, /^--kernel: there is no "nope"$/],
  [{ tree: 'nope' }, /^--tree: there is no "nope"$/],
  [{ config: ['nope'] }, /^--config: there is no "nope"$/],
  [{ suite: ['nope'] }, /^there is no suite "nope"$/],
  [{ suite: ['suites/lib'] }, /^there is no suite "suites\/lib"$/],
  [{ suite: ['lib'] }, /^there is no suite "lib"$/],
  [{ suite: ['../bzImage'] }, /^there is no suite/],
];

for (const [options, message] of bad) {
  test(`config: ${JSON.stringify(options)} is refused`, (t) => {
    const failure = t.throws(() => resolve(options), { instanceOf: Failure, message });
    t.is(failure.code, 'E_USAGE');
    t.is(failure.blame, 'user');
  });
}

function resolve(options: Options, env: Readonly<Record<string, string>> = {}): Config {
  const now = new Date(2026, 1, 3, 4, 5, 6);
  return resolveConfig(options, {
    env,
    cwd: dir,
    projectDir: dir,
    defaultProfile: 'default-1',
    defaultJobs: 1,
    now,
  });
}
