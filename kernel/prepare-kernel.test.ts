import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { appendFile, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import type { RunEvent } from '#runner/lib/events.ts';
import { execOrFail } from '#runner/lib/exec.ts';
import { Failure } from '#runner/lib/failure.ts';
import { type KernelRequest, prepareKernel } from './prepare-kernel.ts';
import type { Profile } from './profile.ts';
import { fakeFile, fakePatch, makeFakeKernel } from './testdata/fake-kernel.ts';

const dir = await mkdtemp(join(tmpdir(), 'fusegate-prepare-'));
const tree = await makeFakeKernel(join(dir, 'tree'));
const builds = join(dir, 'builds');
const hang = join(dir, 'hang');
process.env['FUSEGATE_CACHE'] = join(dir, 'cache');
process.env['FAKE_BUILDS'] = builds;
process.env['FAKE_HANG'] = hang;
test.after.always(() => rm(dir, { recursive: true, force: true }));

const profile: Profile = {
  name: 'fake',
  description: 'fake',
  source: { debianPackage: 'linux-source-0' },
  series: null,
  fragments: ['fuse'],
  abi: 'backing-id',
  kernelFeatures: {},
  expectations: [],
};

interface Run {
  readonly events: RunEvent[];
  readonly out: string;
  readonly controller: AbortController;
}

let runs = 0;
function newRun(): Run {
  runs += 1;
  return { events: [], out: join(dir, `out-${runs}`), controller: new AbortController() };
}

function prepare(request: Partial<KernelRequest>, run = newRun()) {
  return prepareKernel(
    { profile, tree, fragments: [], role: 'patched', ...request },
    { emit: (event) => run.events.push(event), signal: run.controller.signal, out: run.out },
  );
}

async function buildCount(): Promise<number> {
  return (await readFile(builds, 'utf8').catch(() => '')).split('\n').length - 1;
}

async function seriesFile(name: string, text: string): Promise<string> {
  const path = join(dir, name);
  await writeFile(path, text);
  return path;
}

async function refusal(request: Partial<KernelRequest>, run = newRun()): Promise<Failure> {
  try {
    await prepare(request, run);
  } catch (error) {
    if (error instanceof Failure) return error;
    throw error;
  }
  throw new Error('expected a failure');
}

test.serial('prepare: built once, then taken from the cache, with all four stages said', async (t) => {
  const before = await buildCount();
  const first = await prepare({});
  t.is(first.release, '6.12.1');
  t.is(first.series, null);
  const run = newRun();
  const second = await prepare({}, run);
  t.deepEqual(second, first);
  t.is((await buildCount()) - before, 1);
  const finished = run.events.filter((event) => event.type === 'stage-finished');
  t.deepEqual(
    finished.map(({ stage, cached }) => [stage, cached]),
    [
      ['source', true],
      ['apply', true],
      ['config', true],
      ['build', true],
    ],
  );
});

test.serial('prepare: a series makes another kernel, and the user’s tree stays as it is', async (t) => {
  const base = await prepare({});
  const run = newRun();
  const image = await prepare(
    { series: await seriesFile('five.patch', fakePatch(5, 'int five;', '[PATCH] five')) },
    run,
  );
  t.not(image.key, base.key);
  t.not(image.imageSha256, base.imageSha256);
  t.is(image.series, 'five');
  t.deepEqual(
    run.events.filter(({ type }) => type === 'patch-applied'),
    [{ type: 'patch-applied', index: 1, count: 1, subject: 'five' }],
  );
  t.is(await readFile(join(tree, 'fs/fuse/file.c'), 'utf8'), fakeFile);
  t.false(existsSync(join(tree, '.config')));
  t.false(existsSync(join(run.out, 'worktree')), 'nothing is left in the run’s directory');
});

test.serial('prepare: base of a request with a series is the kernel without it', async (t) => {
  const series = await seriesFile('base.patch', fakePatch(7, 'int seven;'));
  t.is((await prepare({ series, role: 'base' })).key, (await prepare({})).key);
});

test.serial('prepare: the first patches of a series alone', async (t) => {
  const series = await seriesFile(
    'two.mbox',
    fakePatch(5, 'int five;', '[PATCH 1/2] one') + fakePatch(20, 'int twenty;', '[PATCH 2/2] two'),
  );
  const one = await prepare({ series, patches: 1 });
  t.deepEqual(one.patch, { index: 1, subject: 'one' });
  const both = await prepare({ series });
  t.is(both.patch, null);
  t.not(one.key, both.key);
  t.is((await refusal({ series, patches: 3 })).code, 'E_USAGE');
});

test.serial('prepare: only a patch to what the configuration is made of has it made again', async (t) => {
  const kconfig =
    'diff --git a/fs/fuse/Kconfig b/fs/fuse/Kconfig\nnew file mode 100644\n--- /dev/null\n+++ b/fs/fuse/Kconfig\n' +
    '@@ -0,0 +1 @@\n+# nothing yet\n';
  const symbol = fakePatch(9, '', '[PATCH 1/2] symbol').replace(/diff --git.*(?=-- \n)/su, kconfig);
  const series = await seriesFile('symbol.mbox', symbol + fakePatch(20, 'int code;', '[PATCH 2/2] code'));
  const configured = async (request: Partial<KernelRequest>): Promise<readonly boolean[]> => {
    const run = newRun();
    await prepare({ series, ...request }, run);
    const ends = run.events.filter((event) => event.type === 'stage-finished');
    return ends.filter(({ stage }) => stage === 'config').map(({ cached }) => !cached);
  };
  t.deepEqual(await configured({ patches: 1 }), [true]);
  t.deepEqual(await configured({}), [false]);
});

test.serial('prepare: an incremental build equals one from nothing', async (t) => {
  const series = await seriesFile('again.patch', fakePatch(11, 'int eleven;'));
  const incremental = await prepare({ series });
  await rm(join(dir, 'cache', 'build'), { recursive: true });
  await rm(join(dir, 'cache', 'kernels', incremental.key), { recursive: true });
  t.is((await prepare({ series })).imageSha256, incremental.imageSha256);
});

test.serial('prepare: a damaged cache entry is noticed, said and rebuilt', async (t) => {
  const image = await prepare({});
  for (const damage of [
    () => appendFile(image.bzImage, 'x'),
    () => rm(image.config ?? ''),
    () => writeFile(join(image.bzImage, '..', 'entry.json'), '{"format":1,'),
    () => rm(join(image.bzImage, '..', 'entry.json')),
  ]) {
    await damage();
    const before = await buildCount();
    const run = newRun();
    t.is((await prepare({}, run)).imageSha256, image.imageSha256);
    t.is((await buildCount()) - before, 1);
    t.true(run.events.some((event) => event.type === 'note' && event.text.includes('damaged')));
  }
});

test.serial('prepare: a compiler error is the series’ fault, with file, line and log', async (t) => {
  const series = await seriesFile('broken.patch', fakePatch(5, 'int five five;', '[PATCH] broken'));
  const run = newRun();
  const failure = await refusal({ series }, run);
  t.is(failure.code, 'E_BUILD_FAILED');
  t.is(failure.blame, 'series');
  t.regex(failure.message, /fs\/fuse\/file\.c:5: /);
  const log = failure.evidence[0]?.path ?? '';
  t.true((await readFile(log, 'utf8')).includes('five five'));
  t.true(run.events.some((event) => event.type === 'stage-failed' && event.stage === 'build'));
  t.is((await prepare({})).release, '6.12.1', 'what was cached is still there');
});

test.serial('prepare: a conflict names the hunk and loses nothing', async (t) => {
  const text = fakePatch(5, 'int five;', '[PATCH] five').replace('-int line_5;', '-int other;');
  const run = newRun();
  const failure = await refusal({ series: await seriesFile('conflict.patch', text) }, run);
  t.is(failure.code, 'E_SERIES_CONFLICT');
  t.true(existsSync(join(run.out, 'worktree', 'fs/fuse/file.c.rej')));
  t.true(run.events.some((event) => event.type === 'stage-failed' && event.stage === 'apply'));
});

test.serial(
  'prepare: an unmet symbol of the user’s fragment is the user’s, asked and got named',
  async (t) => {
    const fragment = await seriesFile('own.config', 'CONFIG_UNKNOWN=y\n');
    const failure = await refusal({ fragments: [fragment] });
    t.is(failure.code, 'E_CONFIG_UNMET');
    t.is(failure.blame, 'user');
    t.regex(failure.message, /CONFIG_UNKNOWN=y \(.*own\.config\) is not set/);
    t.is((await refusal({ fragments: ['/no/such'] })).code, 'E_CONFIG_NOT_FOUND');
  },
);

test.serial('prepare: an edit in the user’s tree makes another kernel', async (t) => {
  const own = await makeFakeKernel(join(dir, 'edited'));
  const before = await prepare({ tree: own });
  await writeFile(join(own, 'fs/fuse/file.c'), `${fakeFile}int more;\n`);
  const after = await prepare({ tree: own });
  t.not(after.imageSha256, before.imageSha256);
  await writeFile(join(own, 'fs/fuse/file.c'), fakeFile);
  t.is((await prepare({ tree: own })).key, before.key);
});

test.serial('prepare: a git tree at a commit, dirty, and with a range', async (t) => {
  const own = await makeFakeKernel(join(dir, 'git'));
  const git = (...args: string[]) =>
    execOrFail('git', ['-C', own, '-c', 'user.name=A', '-c', 'user.email=a@example.org', ...args]);
  await git('init', '-q', '-b', 'main');
  await git('add', '.');
  await git('commit', '-qm', 'base');
  const base = await prepare({ tree: own });
  t.is(base.imageSha256, (await prepare({})).imageSha256);
  await writeFile(join(own, 'fs/fuse/file.c'), fakeFile.replace('line_5;', 'five;'));
  const dirty = await prepare({ tree: own });
  t.not(dirty.key, base.key);
  await git('commit', '-qam', 'fuse: five');
  t.is((await prepare({ tree: own, ref: 'HEAD~1' })).key, base.key);
  const range = await prepare({ tree: own, series: 'HEAD~1..HEAD' });
  t.is(range.imageSha256, dirty.imageSha256);
  t.is((await prepare({ tree: own, series: 'HEAD~1..HEAD', role: 'base' })).key, base.key);
  t.is((await refusal({ tree: own, ref: 'nope' })).code, 'E_GIT_REF');
});

test.serial('prepare: a directory that is no kernel, and a ref without a tree', async (t) => {
  await mkdir(join(dir, 'no-kernel'), { recursive: true });
  t.is((await refusal({ tree: join(dir, 'no-kernel') })).code, 'E_TREE_INVALID');
  t.is((await refusal({ tree: undefined, ref: 'v6.12' })).code, 'E_USAGE');
});

/** Another process that prepares the same request; its events come line by line. */
function otherProcess(request: Partial<KernelRequest>, out: string) {
  const code = `
    const { prepareKernel } = await import(${JSON.stringify(new URL('./prepare-kernel.ts', import.meta.url).href)});
    const emit = (event) => process.stdout.write(JSON.stringify(event) + '\\n');
    const signal = new AbortController().signal;
    const image = await prepareKernel(${JSON.stringify({ profile, tree, fragments: [], role: 'patched', ...request })}, { emit, signal, out: ${JSON.stringify(out)} });
    emit({ image });
  `;
  return spawn(process.execPath, ['--input-type=module', '--eval', code], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
}

/** What a process writes, up to and including a text; may be asked again for a later one. */
function linesOf(stream: NodeJS.ReadableStream) {
  const chunks = stream[Symbol.asyncIterator]();
  let seen = '';
  return {
    async until(text: string): Promise<string> {
      while (!seen.includes(text)) {
        const next = await chunks.next();
        if (next.done === true) throw new Error(`ended before ${text}: ${seen}`);
        seen += String(next.value);
      }
      return seen;
    },
  };
}

test.serial('prepare: two processes that want the same kernel build it once', async (t) => {
  const series = await seriesFile('both.patch', fakePatch(13, 'int thirteen;'));
  const before = await buildCount();
  await execOrFail('mkfifo', [hang]);
  const left = otherProcess({ series }, join(dir, 'left'));
  const leftLines = linesOf(left.stdout);
  await leftLines.until('"stage-progress"');
  const right = linesOf(otherProcess({ series }, join(dir, 'right')).stdout);
  t.regex(await right.until('waiting for process'), new RegExp(`waiting for process ${left.pid}\\b`));
  await writeFile(hang, '');
  await rm(hang);
  await Promise.all([leftLines.until('"image"'), right.until('"image"')]);
  t.is((await buildCount()) - before, 1);
});

/** The fake build's last child, which waits at the pipe: what a dead run would leave behind. */
async function leftOvers(): Promise<readonly string[]> {
  const processes = (await readdir('/proc')).filter((name) => /^\d+$/u.test(name));
  const commands = await Promise.all(
    processes.map((pid) => readFile(join('/proc', pid, 'cmdline'), 'utf8').catch(() => '')),
  );
  return commands.filter((command) => command === `cat\0${hang}\0`);
}

async function eventually(condition: () => Promise<boolean>): Promise<boolean> {
  for (let tries = 0; tries < 200; tries += 1) {
    if (await condition()) return true;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  return false;
}

test.serial(
  'prepare: kill -9 during the build leaves nothing running, and the next run succeeds',
  async (t) => {
    const series = await seriesFile('killed.patch', fakePatch(15, 'int fifteen;'));
    await execOrFail('mkfifo', [hang]);
    const victim = otherProcess({ series }, join(dir, 'victim'));
    await linesOf(victim.stdout).until('"stage-progress"');
    const hanging = await eventually(async () => (await leftOvers()).length === 1);
    victim.kill('SIGKILL');
    t.true(hanging, 'the build was going on');
    t.true(await eventually(async () => (await leftOvers()).length === 0), 'make and its children are gone');
    await rm(hang);
    const image = await prepare({ series });
    t.is(image.release, '6.12.1');
  },
);

test.serial('prepare: an interruption ends make and leaves neither lock nor entry', async (t) => {
  const series = await seriesFile('interrupted.patch', fakePatch(17, 'int seventeen;'));
  await execOrFail('mkfifo', [hang]);
  const run = newRun();
  const failing = prepareKernel(
    { profile, tree, series, fragments: [], role: 'patched' },
    {
      emit: (event) => {
        if (event.type === 'stage-progress') run.controller.abort();
      },
      signal: run.controller.signal,
      out: run.out,
    },
  );
  const failure = await t.throwsAsync(failing, { instanceOf: Failure });
  t.is(failure.blame, 'interrupted');
  t.true(await eventually(async () => (await leftOvers()).length === 0));
  await rm(hang);
  t.is((await prepare({ series })).release, '6.12.1');
});

test.serial('prepare: a ready kernel is checked, and excludes a series', async (t) => {
  const failure = await refusal({ kernel: join(tree, 'Makefile'), tree: undefined });
  t.is(failure.code, 'E_KERNEL_NOT_BOOTABLE');
  t.is(failure.blame, 'user');
  t.is((await refusal({ kernel: join(dir, 'none'), tree: undefined })).code, 'E_KERNEL_NOT_BOOTABLE');
  for (const other of [{ series: 'y' }, { patches: 1 }, { ref: 'v6.1' }]) {
    t.is((await refusal({ kernel: 'x', tree: undefined, ...other })).code, 'E_USAGE');
  }
  t.regex((await refusal({ patches: 2 })).message, /^2 patches are wanted, and there is no series$/);
});
