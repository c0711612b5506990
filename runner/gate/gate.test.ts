import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import type { KernelImage } from '#kernel/kernel-image.ts';
import { prepareKernel } from '#kernel/prepare-kernel.ts';
import { fakePatch, makeFakeKernel } from '#kernel/testdata/fake-kernel.ts';
import { fakeProject } from '#runner/ava/fake-project.ts';
import { resolveConfig } from '#runner/config/config.ts';
import { FakeGuest } from '#runner/lease/fake-guest.ts';
import { execOrFail } from '#runner/lib/exec.ts';
import { Failure } from '#runner/lib/failure.ts';
import { projectRoot } from '#runner/lib/paths.ts';
import { loadReport } from '#runner/report/load-report.ts';
import type { RunParts } from '#runner/run/parts.ts';
import type { RunOptions } from '#runner/run/run.ts';
import type { GateVerdict } from './gate-schema.ts';
import { formatGate } from './formats.ts';
import { renderGateAnnotations } from './render-gate-annotations.ts';
import { runGate, type GateWishes } from './run-gate.ts';

// The whole gate with the real AVA, broker, sockets, cache and report; kernels and guests are small.

const LEASED = `
  import test from 'ava';
  import { FakeTestProcess } from ${JSON.stringify(join(projectRoot, 'runner/lease/fake-test-process.ts'))};
  export function leased(title: string): void {
    test.serial(title, async (t: any) => {
      await using guest = await FakeTestProcess.connect(process.env['FUSEGATE_LEASE_SOCKET'] ?? '');
      await guest.call('lease.acquire', { test: 'area/file: ' + title });
      const answer = await guest.call('ask ' + title);
      await guest.call('lease.finish', { passed: answer === 'right' });
      t.is(answer, 'right');
    });
  }
`;
const SUITE = `
  import { leased } from '../lib/leased.ts';
  for (const title of ['first', 'second', 'third']) leased(title);
`;

/** What the kernel with so many patches answers in a test; `boot` may be one. */
type Kernel = (patches: number, question: string) => 'right' | 'wrong' | 'panic' | 'kill';

interface Bench extends AsyncDisposable {
  readonly dir: string;
  readonly booted: number[];
  /** Kernels that were asked for, by their number of patches. */
  readonly prepared: string[];
  gate(
    kernel: Kernel,
    options?: Partial<GateWishes> & {
      readonly breaks?: Readonly<Record<number, Failure>>;
      readonly images?: Readonly<Record<number, string>>;
      readonly range?: Readonly<Record<string, string>>;
      readonly real?: Partial<RunParts>;
    },
  ): ReturnType<typeof runGate>;
}

async function setUp(patches = 3): Promise<Bench> {
  const project = await fakeProject({ 'suites/lib/leased.ts': LEASED, 'suites/area/file.test.ts': SUITE });
  const dir = await mkdtemp(join(tmpdir(), 'fusegate-gate-test-'));
  const before = process.env['FUSEGATE_CACHE'];
  process.env['FUSEGATE_CACHE'] = join(dir, 'cache');
  const mbox = Array.from({ length: patches }, (_, at) =>
    fakePatch(5 * (at + 1), `int p${at};`, `[PATCH ${at + 1}/${patches}] fuse: p${at + 1}`),
  );
  await writeFile(join(dir, 'v13.mbox'), mbox.join(''));
  const booted: number[] = [];
  const prepared: string[] = [];
  let nth = 0;
  return {
    dir,
    booted,
    prepared,
    gate: (kernel, { breaks = {}, images = {}, range = {}, real = {}, ...wishes } = {}) => {
      nth += 1;
      const config = resolveConfig(
        { out: join(dir, `out-${nth}`), profile: 'mainline-6.12', series: join(dir, 'v13.mbox'), ...range },
        {
          env: {},
          cwd: project.dir,
          projectDir: project.dir,
          defaultProfile: 'x',
          defaultJobs: 1,
          now: new Date(),
        },
      );
      const options: RunOptions = {
        config,
        profile: PROFILE,
        parts: { ...fakeParts(dir, kernel, { breaks, images }, { booted, prepared }), ...real },
        projectDir: project.dir,
        sinks: [],
        signal: new AbortController().signal,
      };
      return runGate(options, { useCache: true, tools: TOOLS, ...wishes });
    },
    async [Symbol.asyncDispose]() {
      if (before === undefined) delete process.env['FUSEGATE_CACHE'];
      else process.env['FUSEGATE_CACHE'] = before;
      await project[Symbol.asyncDispose]();
      await rm(dir, { recursive: true, force: true });
    },
  };
}

/** Name of the earlier version where two are compared. */
const OLDER = 'v12';

const TOOLS: GateWishes['tools'] = {
  kernelWarnings: () => Promise.resolve([]),
  pristineSource: () => Promise.resolve('/nowhere'),
};

const PROFILE: RunOptions['profile'] = {
  ...{
    name: 'mainline-6.12',
    description: 'fake',
    source: { debianPackage: 'linux-source-6.12' },
    series: null,
  },
  ...{ fragments: ['base'], abi: 'backing-id', kernelFeatures: {}, expectations: [] },
};

function fakeParts(
  dir: string,
  kernel: Kernel,
  {
    breaks,
    images,
  }: {
    readonly breaks: Readonly<Record<number, Failure>>;
    readonly images: Readonly<Record<number, string>>;
  },
  { booted, prepared }: Pick<Bench, 'booted' | 'prepared'>,
): RunParts {
  const guests: FakeGuest[] = [];
  return {
    prepareKernel: ({ patches: wanted, profile, role, loaded, fresh }) => {
      // A whole version: the earlier one stands for the base.
      const patches = wanted ?? (loaded?.name === OLDER ? 0 : (loaded?.patches.length ?? 0));
      prepared.push(`${patches}${fresh === true ? ' from nothing' : ''}`);
      const broken = breaks[patches];
      if (broken !== undefined) return Promise.reject(broken);
      const patch = patches === 0 ? null : { index: patches, subject: `fuse: p${patches}` };
      const files = { bzImage: '', config: undefined, vmlinux: undefined, release: '6.12' };
      const image: KernelImage = {
        ...{
          key: `k${patches}`,
          imageSha256: images[patches] ?? `k${patches}`,
          profile: profile.name,
          role,
          series: 'v13',
          patch,
        },
        ...files,
      };
      return Promise.resolve(image);
    },
    buildRootfs: () => Promise.resolve({ key: 'r', rootDisk: '', initramfs: '', scratchDisk: '' }),
    probeAccelerator: () => Promise.resolve({ accelerator: 'tcg', reason: 'fake' }),
    bundleDaemon: () => Promise.resolve({ path: join(dir, 'daemon.js'), sha256: 'd' }),
    bootMachine: ({ name, kernel: image }) => {
      const patches = image.patch?.index ?? 0;
      booted.push(patches);
      if (kernel(patches, 'boot') === 'panic') {
        return Promise.reject(
          new Failure('E_BOOT_PANIC', 'kernel', 'the kernel panicked while booting: fake'),
        );
      }
      const guest = guestOf(name, patches, kernel);
      guests.push(guest);
      return Promise.resolve(guest.machine);
    },
    deployDaemon: (machine, _bundle, { emit }) => {
      emit({ type: 'machine-ready', machine: machine.id, bootMs: 1, deployMs: 1 });
      const guest = guests.find((each) => each.machine === machine);
      return guest === undefined
        ? Promise.reject(new Error('another machine'))
        : Promise.resolve(guest.guest);
    },
  };
}

function guestOf(name: string, patches: number, kernel: Kernel): FakeGuest {
  const guest = new FakeGuest(name);
  for (const question of ['first', 'second', 'third']) {
    guest.handlers.set(`ask ${question}`, () => {
      const answer = kernel(patches, question);
      if (answer === 'kill') {
        guest.lose(new Failure('E_QEMU_DIED', 'infra', 'QEMU was ended by SIGKILL'));
        return new Promise(() => undefined);
      }
      return answer;
    });
  }
  return guest;
}

function verdictOn(verdicts: readonly GateVerdict[] | undefined, title: string): GateVerdict | undefined {
  return verdicts?.find(({ test: id }) => id === `area/file: ${title}`);
}

const right: Kernel = () => 'right';
const secondBreaks: Kernel = (patches, question) =>
  patches >= 2 && question === 'second' ? 'wrong' : 'right';

test.serial('gate: a clean series passes, and a second time nothing is booted', async (t) => {
  await using bench = await setUp();
  const { report, exitCode } = await bench.gate(right);
  t.is(exitCode, 0);
  t.is(report.verdict, 'pass');
  t.deepEqual(bench.booted, [0, 3, 1, 2]);
  t.deepEqual(
    report.kernels.map(({ id }) => id),
    ['base', 'patched-1', 'patched-2', 'patched-3'].map((id) => `mainline-6.12/${id}`),
  );
  const again = await bench.gate(right);
  t.is(again.exitCode, 0);
  t.is(bench.booted.length, 4);
  t.true(again.report.gate?.steps.every(({ cached }) => cached));
  t.deepEqual(await loadReport(again.reportPath), again.report);
  await bench.gate(right, { useCache: false });
  t.is(bench.booted.length, 8);
});

test.serial(
  'gate: the patch that breaks a test is found and proved; only that test is repeated',
  async (t) => {
    await using bench = await setUp();
    const { report, exitCode } = await bench.gate(secondBreaks);
    t.is(exitCode, 1);
    const verdict = verdictOn(report.gate?.verdicts, 'second');
    t.like(verdict, { kind: 'regressed', confirmed: true, mendedBy: null });
    t.deepEqual(verdict?.patch, { first: 2, last: 2 });
    t.true((verdict?.odds ?? 1) < 0.01);
    t.is(verdict?.base.passes, verdict?.base.runs);
    t.is(verdict?.patched.passes, 0);
    t.is(verdictOn(report.gate?.verdicts, 'first')?.kind, 'passed');
    const repeated = report.gate?.steps.filter(({ times }) => times > 1) ?? [];
    t.true(repeated.every(({ wanted }) => wanted !== 'all' && wanted.join() === 'area/file: second'));
    t.deepEqual(report.counts, { passed: 2, failed: 1, skipped: 0, knownFailures: 0 });
  },
);

test.serial(
  'gate: only kernels that may be asked again are saved, those inside the series boot',
  async (t) => {
    await using bench = await setUp();
    const saved: (number | undefined)[] = [];
    const states: RunParts['states'] = {
      save: ({ kernel }) => {
        saved.push(kernel.patch?.index ?? 0);
        return Promise.reject(new Failure('E_STATE', 'infra', 'machines cannot be saved here'));
      },
      restore: () => Promise.reject(new Error('nothing was saved')),
      discard: () => Promise.resolve(),
    };
    const { exitCode } = await bench.gate(right, { real: { states } });
    t.is(exitCode, 0);
    t.deepEqual(saved, [0, 3]);
    t.deepEqual(bench.booted, [0, 3, 1, 2]);
  },
);

test.serial('gate: a second version that changes the last patch runs that one alone', async (t) => {
  await using bench = await setUp();
  await bench.gate(right);
  const before = bench.booted.length;
  const second = await bench.gate(right, { images: { 3: 'v2' } });
  t.is(second.exitCode, 0);
  t.deepEqual(bench.booted.slice(before), [3]);
});

test.serial('gate: a patch that does not apply leaves the ones before it their verdicts', async (t) => {
  await using bench = await setUp();
  const conflict = new Failure('E_SERIES_CONFLICT', 'series', 'patch 3/3 (fuse: p3) does not apply: hunk 1');
  const { report, exitCode } = await bench.gate(right, { breaks: { 3: conflict } });
  t.is(exitCode, 4);
  t.deepEqual(
    report.gate?.patches.map(({ state }) => state),
    ['built', 'built', 'not-applied'],
  );
  t.is(verdictOn(report.gate?.verdicts, 'second')?.kind, 'passed');
  t.deepEqual(bench.booted, [0, 2, 1]);
});

test.serial('gate: a patch that does not build does not hide what the next one does', async (t) => {
  await using bench = await setUp();
  const broken = new Failure('E_BUILD_FAILED', 'series', 'fs/fuse/file.c:5: no');
  const { report, exitCode } = await bench.gate(right, { breaks: { 2: broken } });
  t.is(exitCode, 4);
  t.deepEqual(
    report.gate?.patches.map(({ state }) => state),
    ['built', 'not-built', 'built'],
  );
  t.deepEqual(bench.booted, [0, 3, 1]);
});

test.serial(
  'gate: the same error after every later patch is built from nothing once, not every time',
  async (t) => {
    await using bench = await setUp(4);
    const broken = new Failure('E_BUILD_FAILED', 'series', 'fs/fuse/cuse.c:5: no such member');
    const { report, exitCode } = await bench.gate(right, { breaks: { 2: broken, 3: broken, 4: broken } });
    t.is(exitCode, 4);
    t.deepEqual(bench.prepared, ['0', '1', '2', '2 from nothing', '3', '4']);
    const text = formatGate(report, 'text');
    t.is(text.match(/DOES NOT BUILD: fs/g)?.length, 1);
    t.is(text.match(/still does not build, see patch 2/g)?.length, 2);
    t.is(
      renderGateAnnotations(report).match(/^::error title=patch 2\/4 \(fuse%3A p2\) does not build::/gm)
        ?.length,
      1,
    );
  },
);

test.serial('gate: a base that does not build is no verdict on the series', async (t) => {
  await using bench = await setUp();
  const broken = new Failure('E_BUILD_FAILED', 'infra', 'it does not');
  const { report, exitCode } = await bench.gate(right, { breaks: { 0: broken } });
  t.is(exitCode, 3);
  t.is(report.gate, null);
  t.is(report.failure?.code, 'E_BUILD_FAILED');
});

test.serial('gate: a kernel that does not boot is the patch that makes it so', async (t) => {
  await using bench = await setUp();
  const { report, exitCode } = await bench.gate((patches, question) =>
    patches >= 3 && question === 'boot' ? 'panic' : 'right',
  );
  t.is(exitCode, 1);
  const boot = report.gate?.verdicts.find(({ id }) => id === 'boot');
  t.like(boot, { kind: 'regressed', confirmed: true });
  t.deepEqual(boot?.patch, { first: 3, last: 3 });
  t.is(verdictOn(report.gate?.verdicts, 'first')?.kind, 'passed');
});

test.serial('gate: a machine that is lost once is asked again, and nobody is blamed', async (t) => {
  await using bench = await setUp();
  let left = 1;
  const { report, exitCode } = await bench.gate((patches, question) => {
    if (patches !== 3 || question !== 'second' || left === 0) return 'right';
    left -= 1;
    return 'kill';
  });
  t.is(verdictOn(report.gate?.verdicts, 'second')?.kind, 'passed');
  t.is(exitCode, 0);
});

test.serial('gate: out of time it says so, and the next call goes on', async (t) => {
  await using bench = await setUp();
  const first = await bench.gate(right, { deadline: '0.001s' });
  t.is(first.exitCode, 3);
  t.is(first.report.verdict, 'inconclusive');
  t.true(first.report.gate?.outOfTime);
  t.true(first.report.gate?.patches.every(({ state }) => state === 'not-run'));
  t.is((await bench.gate(right)).exitCode, 0);
});

test.serial('gate: a selection without a test is refused before anything is built', async (t) => {
  await using bench = await setUp();
  const kernels: number[] = [];
  const real: Partial<RunParts> = {
    prepareKernel: ({ patches = 0 }) => {
      kernels.push(patches);
      return Promise.reject(new Error('nothing is to be built'));
    },
  };
  const { report, exitCode } = await bench.gate(right, { range: { match: 'no such title' }, real });
  t.is(exitCode, 2);
  t.like(report.failure, { code: 'E_NO_TESTS', blame: 'user' });
  t.deepEqual(kernels, []);
});

test.serial('gate: a deadline that is none is a mistake of the user', async (t) => {
  await using bench = await setUp();
  const result = await bench.gate(right, { deadline: 'soon' }).catch((error: unknown) => error);
  t.like(result, { code: 'E_USAGE', blame: 'user' });
});

async function olderVersion(dir: string, lines: readonly string[]): Promise<string> {
  const path = join(dir, `${OLDER}.mbox`);
  const mails = lines.map((line, at) =>
    fakePatch(5 * (at + 1), line, `[PATCH v12 ${at + 1}/${lines.length}] fuse: p${at + 1}`),
  );
  await writeFile(path, mails.join(''));
  return path;
}

test.serial('gate: a whole version against the whole of an earlier one', async (t) => {
  await using bench = await setUp();
  const against = await olderVersion(bench.dir, ['int p0;', 'int other;']);
  const mends: Kernel = (patches, question) => {
    if (question === 'first') return patches === 0 ? 'wrong' : 'right';
    return question === 'second' && patches === 3 ? 'wrong' : 'right';
  };
  const { report, exitCode } = await bench.gate(mends, { against });
  t.is(exitCode, 1);
  t.true(bench.booted.every((patches) => patches === 0 || patches === 3));
  t.like(report.gate?.against, {
    ...{ name: OLDER, spec: against, count: 2, newCount: 3 },
    ...{ same: [1], changed: [2], added: [3], dropped: [] },
  });
  t.is(report.gate?.patches.length, 1);
  t.like(verdictOn(report.gate?.verdicts, 'first'), { kind: 'fixed', confirmed: true });
  t.like(verdictOn(report.gate?.verdicts, 'second'), { kind: 'regressed', confirmed: true });
  t.is(verdictOn(report.gate?.verdicts, 'third')?.kind, 'passed');
  t.deepEqual(
    report.kernels.map(({ id }) => id),
    ['mainline-6.12/base', 'mainline-6.12/patched-3'],
  );
});

test.serial('gate: a version against itself is a mistake of the user', async (t) => {
  await using bench = await setUp();
  const { report, exitCode } = await bench.gate(right, { against: join(bench.dir, 'v13.mbox') });
  t.is(exitCode, 2);
  t.like(report.failure, { code: 'E_USAGE', blame: 'user' });
  t.regex(report.failure?.message ?? '', /^--against .*v13\.mbox is the series itself$/);
  t.deepEqual(bench.booted, []);
});

test.serial('gate: what is odd about the earlier version is said with its name', async (t) => {
  await using bench = await setUp();
  const path = await olderVersion(bench.dir, ['int p0;', 'int other;']);
  const [one = '', two = ''] = (await readFile(path, 'utf8')).split(/(?=^From )/m);
  await writeFile(path, two + one);
  const { report } = await bench.gate(right, { against: path });
  t.deepEqual(report.gate?.notes, ['v12: the patches came in the order 2, 1; their numbers count']);
});

test.serial(
  'gate: a range of a tree of the user is built for real, and a renamed symbol needs no run',
  async (t) => {
    await using bench = await setUp();
    const tree = await makeFakeKernel(join(bench.dir, 'linux'));
    const git = (...args: readonly string[]) =>
      execOrFail('git', ['-c', 'user.name=a', '-c', 'user.email=a@example.org', ...args], { cwd: tree });
    await git('init', '--quiet');
    await git('add', '.');
    await git('commit', '--quiet', '--message', 'base');
    await git('tag', 'base');
    for (const [at, line] of ['int renamed;', 'int line_10 = 5;'].entries()) {
      await writeFile(join(bench.dir, 'p.patch'), fakePatch(5 * (at + 1), line));
      await git('am', '--quiet', join(bench.dir, 'p.patch'));
    }
    const range = { series: 'base..HEAD', tree };
    const kernels: number[] = [];
    const real: Partial<RunParts> = {
      prepareKernel: async (request, context) => {
        kernels.push(request.patches ?? -1);
        return prepareKernel({ ...request, profile: { ...request.profile, fragments: [] } }, context);
      },
    };
    const { report, exitCode } = await bench.gate(right, { range, real });
    t.is(report.failure, null);
    t.is(exitCode, 0);
    t.deepEqual(kernels, [0, 1, 2]);
    t.deepEqual(bench.booted, [0, 2]);
    t.deepEqual(
      report.gate?.patches.map(({ state, sameAs }) => [state, sameAs]),
      [
        ['built', 0],
        ['built', null],
      ],
    );
    t.is((await git('status', '--porcelain')).stdout, '');
  },
);
