import { spawn } from 'node:child_process';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import test from 'ava';
import { projectRoot } from '#runner/lib/paths.ts';
import { fakeReport } from '#runner/report/fake-report.ts';

// The real program, from its first file on.

const dir = await mkdtemp(join(tmpdir(), 'fusegate-cli-'));
test.after.always(() => rm(dir, { recursive: true, force: true }));

const bad: readonly (readonly [string, readonly string[], number, RegExp])[] = [
  [
    'an unknown option',
    ['run', '--profle', 'x'],
    2,
    /^fusegate: E_USAGE: unknown option '--profle'\n {4}hint: Did you mean --profile\?\n$/,
  ],
  ['an unknown command', ['fly'], 2, /^fusegate: E_USAGE: unknown command 'fly'\n {4}hint: .*\n$/],
  [
    'a missing argument',
    ['run', '--profile'],
    2,
    /^fusegate: E_USAGE: option '--profile <name>' argument missing\n/,
  ],
  ['too many arguments', ['run', 'x'], 2, /^fusegate: E_USAGE: too many arguments.*\n/],
  [
    'an unknown profile',
    ['run', '--profile', 'nope'],
    2,
    /^fusegate: E_PROFILE_UNKNOWN: .*\n {4}hint: choose one of: .*\n$/,
  ],
  [
    'a kernel that is not there',
    ['run', '--kernel', '/nope'],
    2,
    /^fusegate: E_USAGE: --kernel: there is no "\/nope"\n/,
  ],
  [
    'a suite that is not there',
    ['run', '--suite', 'nope'],
    2,
    /^fusegate: E_USAGE: there is no suite "nope"\n/,
  ],
  [
    'a directory that cannot be made',
    ['build', '--out', '/proc/nope'],
    2,
    /^fusegate: E_OUT_UNWRITABLE: .*\n {4}hint: .*\n$/,
  ],
  [
    'jobs that are no number',
    ['run', '--jobs', 'x'],
    2,
    /^fusegate: E_USAGE: --jobs must be a whole number, not "x"\n/,
  ],
  ['a gate without a series', ['gate'], 2, /^fusegate: E_USAGE: a gate needs a series\n {4}hint: .*\n$/],
  [
    'a deadline that is none',
    ['gate', '--series', 'x', '--deadline', 'soon'],
    2,
    /^fusegate: E_USAGE: --deadline must be a time such as 30m or 90s, not "soon"\n/,
  ],
  ['reproduce without a report', ['reproduce', '/nope', 'x'], 2, /^fusegate: E_REPORT_MISSING: /],
  ['a report that is not there', ['report', '/nope'], 2, /^fusegate: E_REPORT_MISSING: .*\n {4}hint: .*\n$/],
  [
    'an unknown format',
    ['report', '--format', 'xml'],
    2,
    /^fusegate: E_USAGE: .*text, json, tap, junit, b4, ktap\n/,
  ],
];

for (const [what, args, code, stderr] of bad) {
  test(`cli: ${what}`, async (t) => {
    const result = await fusegate(args);
    t.is(result.code, code);
    t.regex(result.stderr, stderr);
    t.is(result.stdout, '');
  });
}

test('cli: --out of a file is refused as such', async (t) => {
  const file = join(dir, 'out-is-a-file');
  await writeFile(file, 'mine');
  const { code, stderr } = await fusegate(['build', '--out', file]);
  t.is(code, 2);
  t.regex(stderr, /^fusegate: E_OUT_UNWRITABLE: .*is not a directory\n/);
  t.is(await readFile(file, 'utf8'), 'mine');
});

test("cli: --out of a directory with a user's own files empties nothing", async (t) => {
  const out = join(dir, 'project');
  await mkdir(join(out, 'tests'), { recursive: true });
  await writeFile(join(out, 'tests', 'mine.c'), 'int main;');
  const { code, stderr } = await fusegate(['build', '--kernel', '/dev/null', '--out', out]);
  t.is(code, 2);
  t.regex(stderr, /^fusegate: E_OUT_UNWRITABLE: .*it holds tests, which no run of fusegate put there\n/);
  t.is(await readFile(join(out, 'tests', 'mine.c'), 'utf8'), 'int main;');
});

test('cli: results of an earlier run make room, other files in their directory stay', async (t) => {
  const out = join(dir, 'again');
  await fusegate(['build', '--kernel', '/dev/null', '--out', out]);
  await mkdir(join(out, 'tests'));
  await writeFile(join(out, 'notes.txt'), 'mine');
  await fusegate(['build', '--kernel', '/dev/null', '--out', out]);
  t.deepEqual((await readdir(out)).toSorted(), ['.fusegate', 'notes.txt', 'report.json']);
});

test('cli: clean takes results and caches, and nothing else', async (t) => {
  const cache = join(dir, 'clean-cache');
  const cwd = join(dir, 'clean-cwd');
  for (const path of [
    join(cache, 'kernels', 'a'),
    join(cwd, 'out', '20260101-000000-x'),
    join(cwd, 'out', 'mine'),
  ]) {
    await mkdir(path, { recursive: true });
  }
  t.is((await fusegate(['clean', '--results'], cwd, cache)).code, 0);
  t.deepEqual(await readdir(join(cwd, 'out')), ['mine']);
  t.deepEqual(await readdir(cache), ['kernels']);
  t.is((await fusegate(['clean'], cwd, cache)).code, 0);
  t.deepEqual(await readdir(cache), []);
});

test('cli: clean of a directory that is not only a cache removes nothing', async (t) => {
  const home = join(dir, 'home');
  await mkdir(join(home, 'build'), { recursive: true });
  await mkdir(join(home, 'thesis'), { recursive: true });
  const { code, stderr } = await fusegate(['clean'], dir, home);
  t.is(code, 2);
  t.regex(stderr, /^fusegate: E_CACHE_FOREIGN: .* also holds thesis, which fusegate did not put there\n/);
  t.deepEqual((await readdir(home)).toSorted(), ['build', 'thesis']);
});

test('cli: no command shows the help, and is a mistake', async (t) => {
  const { code, stdout } = await fusegate([]);
  t.is(code, 2);
  t.regex(stdout, /Usage: fusegate/);
});

test('cli: help and version are no mistakes', async (t) => {
  t.is((await fusegate(['--help'])).code, 0);
  t.is((await fusegate(['run', '--help'])).code, 0);
  t.regex((await fusegate(['--version'])).stdout, /^\d+\.\d+\.\d+\n$/);
});

test('cli: a kernel that is none ends with one sentence, a report and exit 2', async (t) => {
  const out = join(dir, 'no-kernel');
  await writeFile(join(dir, 'not-a-kernel'), 'MZ, but not much more');
  const { code, stdout } = await fusegate(['build', '--kernel', join(dir, 'not-a-kernel'), '--out', out]);
  t.is(code, 2);
  t.regex(stdout, /^fusegate: E_KERNEL_NOT_BOOTABLE: /m);
  t.is(stdout.trimEnd().split('\n').at(-1), '0 passed, 0 failed, 0 skipped');
  const report = JSON.parse(await readFile(join(out, 'report.json'), 'utf8')) as { verdict: string };
  t.is(report.verdict, 'inconclusive');
});

test('cli: an empty mbox ends with exit 4', async (t) => {
  await writeFile(join(dir, 'empty.mbox'), '');
  const out = join(dir, 'empty');
  const { code, stdout } = await fusegate(['build', '--series', join(dir, 'empty.mbox'), '--out', out]);
  t.is(code, 4);
  t.regex(stdout, /^fusegate: E_SERIES_\w+: /m);
});

test('cli: the default directory has a latest link', async (t) => {
  const { code } = await fusegate(
    ['build', '--kernel', join(dir, 'cli-none'), '--profile', 'mainline-6.12'],
    dir,
  );
  t.is(code, 2);
  await writeFile(join(dir, 'empty2.mbox'), '');
  await fusegate(['build', '--series', 'empty2.mbox'], dir);
  const report = await fusegate(['report', '--format', 'json'], dir);
  t.is(report.code, 4);
  t.like(JSON.parse(report.stdout), { schema: 1, verdict: 'fail' });
});

test('cli: a saved report in every format, with the exit code of its run', async (t) => {
  await writeFile(join(dir, 'report.json'), JSON.stringify(fakeReport()));
  const human = await fusegate(['report', dir]);
  t.is(human.code, 1);
  t.is(human.stdout.trimEnd().split('\n').at(-1), '1 passed, 2 failed, 2 skipped');
  t.deepEqual(JSON.parse((await fusegate(['report', dir, '--format', 'json'])).stdout), fakeReport());
  t.regex((await fusegate(['report', dir, '--format', 'tap'])).stdout, /^TAP version 14\n/);
  t.regex((await fusegate(['report', dir, '--format', 'junit'])).stdout, /^<\?xml /);
});

interface Result {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

async function fusegate(
  args: readonly string[],
  cwd = projectRoot,
  cache = join(dir, 'cache'),
): Promise<Result> {
  const child = spawn(process.execPath, [join(projectRoot, 'runner/cli/fusegate.js'), ...args], {
    cwd,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, FUSEGATE_CACHE: cache },
  });
  const exited = new Promise<number | null>((resolve) => child.once('exit', resolve));
  const [stdout, stderr, code] = await Promise.all([text(child.stdout), text(child.stderr), exited]);
  return { code, stdout, stderr };
}
