import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { passingProfiles } from '#kernel/profile.ts';
import type { Config } from '#runner/config/config.ts';
import { ExitCode, Failure } from '#runner/lib/failure.ts';
import { fakeReport } from '#runner/report/fake-report.ts';
import { reportSchema } from '#runner/report/report.ts';
import { runAll } from './run-all.ts';

const dir = await mkdtemp(join(tmpdir(), 'fusegate-run-all-'));
test.after.always(() => rm(dir, { recursive: true, force: true }));

const CONFIG: Config = {
  profile: 'all',
  series: null,
  tree: null,
  kernel: null,
  fragments: [],
  patches: null,
  base: null,
  selection: { files: [], match: [] },
  accelerator: 'auto',
  append: '',
  jobs: 1,
  out: join(dir, 'results'),
  latest: null,
  keep: false,
  cold: false,
  dumpGuestMemory: false,
  tap: true,
};

test.serial('all: every profile that should pass is run, and there is one report', async (t) => {
  const ran: Config[] = [];
  const said: string[] = [];
  const code = await runAll(
    CONFIG,
    (config) => {
      ran.push(config);
      const report = fakeReport({ profile: config.profile, verdict: 'pass', tests: [], faults: [] });
      return Promise.resolve({ report, exitCode: ExitCode.passed });
    },
    (text) => said.push(text),
  );
  t.is(code, ExitCode.passed);
  t.regex(said.join(''), /\n0 passed, 0 failed, 0 skipped\n$/);
  t.deepEqual(
    ran.map(({ profile }) => profile),
    ['mainline-6.12', 'v12-6.1'],
  );
  t.deepEqual(
    ran.map(({ out }) => out),
    ran.map(({ profile }) => join(CONFIG.out, profile)),
  );
  const report = reportSchema.parse(JSON.parse(await readFile(join(CONFIG.out, 'report.json'), 'utf8')));
  t.is(report.verdict, 'pass');
  t.is(report.kernels.length, 2);
});

test.serial('all: the worst exit code is the one of the whole, and an interrupt ends it', async (t) => {
  const run = async (codes: readonly ExitCode[]): Promise<{ code: ExitCode; ran: number }> => {
    let ran = 0;
    const code = await runAll(
      CONFIG,
      () => {
        const exitCode = codes[ran++] ?? ExitCode.passed;
        return Promise.resolve({ report: fakeReport(), exitCode });
      },
      () => undefined,
    );
    return { code, ran };
  };
  t.deepEqual(await run([ExitCode.build, ExitCode.passed]), { code: ExitCode.build, ran: 2 });
  t.deepEqual(await run([ExitCode.infrastructure, ExitCode.kernelFailed]), {
    code: ExitCode.kernelFailed,
    ran: 2,
  });
  t.deepEqual(await run([ExitCode.interrupted, ExitCode.kernelFailed]), {
    code: ExitCode.interrupted,
    ran: 1,
  });
});

test('all: what belongs to one kernel is refused', async (t) => {
  for (const one of [{ series: 'x.mbox' }, { tree: '/linux' }, { kernel: '/bzImage' }]) {
    const failure = await t.throwsAsync(
      runAll(
        { ...CONFIG, ...one },
        () => Promise.reject(new Error('must not run')),
        () => undefined,
      ),
      { instanceOf: Failure },
    );
    t.is(failure.code, 'E_USAGE');
    t.regex(failure.message, new RegExp(`--${Object.keys(one)[0] ?? ''} `));
  }
});

test('all: a kernel that is wrong on purpose is not among them', async (t) => {
  const names = await passingProfiles();
  t.true(names.includes('v12-6.1'));
  t.false(names.includes('v11-6.1'));
});
