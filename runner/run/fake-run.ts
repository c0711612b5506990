import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fakeProject } from '#runner/ava/fake-project.ts';
import { resolveConfig } from '#runner/config/config.ts';
import { FakeGuest } from '#runner/lease/fake-guest.ts';
import type { RunEvent } from '#runner/lib/events.ts';
import { Failure } from '#runner/lib/failure.ts';
import { projectRoot } from '#runner/lib/paths.ts';
import type { RunParts } from './parts.ts';
import type { RunOptions, RunResult } from './run.ts';
import { run } from './run.ts';

/** What the suites of a fake project import: a test that leases a machine, as small as it can be. */
const LEASED = `
  import test from 'ava';
  import { basename, dirname } from 'node:path';
  import { fileURLToPath } from 'node:url';
  import { FakeTestProcess } from ${JSON.stringify(join(projectRoot, 'runner/lease/fake-test-process.ts'))};

  const file = fileURLToPath(test.meta.file);
  const place = basename(dirname(file)) + '/' + basename(file, '.test.ts');

  export function leased(title: string, body: (t: any, guest: FakeTestProcess) => Promise<void>): void {
    test.serial(title, async (t: any) => {
      await using guest = await FakeTestProcess.connect(process.env['FUSEGATE_LEASE_SOCKET'] ?? '');
      const terms = await guest.call('lease.acquire', { test: place + ': ' + title });
      if (typeof terms === 'string') throw new Error(terms);
      try {
        await body(t, guest);
      } finally {
        const end: any = await guest.call('lease.finish', { passed: t.passed });
        if (typeof end !== 'string' && end.findings.length > 0) t.fail(end.findings[0].message);
      }
    });
  }
`;

export interface FakeRun extends AsyncDisposable {
  readonly out: string;
  readonly guests: readonly FakeGuest[];
  readonly parts: RunParts;
  run(
    replaced?: Partial<RunParts>,
    onEvent?: (event: RunEvent, abort: () => void) => void,
  ): Promise<RunResult>;
}

/** The whole engine with the real AVA, broker, sockets and report; only what makes a guest is small. */
export async function fakeRun(
  files: Readonly<Record<string, string>>,
  options: Record<string, unknown> = {},
): Promise<FakeRun> {
  const project = await fakeProject({ 'suites/lib/leased.ts': LEASED, ...files });
  const out = await mkdtemp(join(tmpdir(), 'fusegate-run-test-'));
  const guests: FakeGuest[] = [];
  const config = resolveConfig(
    { out, profile: 'mainline-6.12', ...options },
    {
      env: {},
      cwd: project.dir,
      projectDir: project.dir,
      defaultProfile: 'mainline-6.12',
      defaultJobs: 1,
      now: new Date(),
    },
  );
  const parts = fakeParts(guests);
  return {
    out,
    guests,
    parts,
    run: async (
      replaced: Partial<RunParts> = {},
      onEvent: (event: RunEvent, abort: () => void) => void = () => undefined,
    ): Promise<RunResult> => {
      const controller = new AbortController();
      const abort = (): void => {
        controller.abort(new Failure('E_INTERRUPTED', 'interrupted', 'interrupted by SIGINT'));
      };
      const runOptions: RunOptions = {
        config,
        profile: PROFILE,
        parts: { ...parts, ...replaced },
        projectDir: project.dir,
        sinks: [
          (event) => {
            onEvent(event, abort);
          },
        ],
        signal: controller.signal,
      };
      return run(runOptions);
    },
    async [Symbol.asyncDispose]() {
      await project[Symbol.asyncDispose]();
      await rm(out, { recursive: true, force: true });
    },
  };
}

const PROFILE: RunOptions['profile'] = {
  name: 'mainline-6.12',
  description: 'fake',
  source: { debianPackage: 'linux-source-6.12' },
  series: null,
  fragments: ['base'],
  abi: 'backing-id',
  kernelFeatures: {},
  expectations: [],
};

function fakeParts(guests: FakeGuest[]): RunParts {
  const newGuest = (name: string): FakeGuest => {
    const guest = new FakeGuest(name);
    guest.handlers.set('hello', () => 'hello');
    guest.handlers.set('hang', () => new Promise(() => undefined));
    guest.handlers.set('leave', () => {
      guest.handlers.set('reset', () => ({ leftMounts: ['/area/m'] }));
      return null;
    });
    guest.handlers.set('panic', () => {
      guest.console.push('[    9.000000] Kernel panic - not syncing: fake');
      guest.handlers.set('reset', () => new Promise(() => undefined));
      guest.lose(new Failure('E_KERNEL_PANIC', 'kernel', 'the kernel panicked: fake'));
      return new Promise(() => undefined);
    });
    guest.handlers.set('kill', () => {
      guest.lose(new Failure('E_QEMU_DIED', 'infra', 'QEMU was ended by SIGKILL'));
      return new Promise(() => undefined);
    });
    guests.push(guest);
    return guest;
  };
  return {
    prepareKernel: ({ profile }) =>
      Promise.resolve({ ...new FakeGuest().pooled.guest.machine.kernel, profile: profile.name }),
    buildRootfs: () => Promise.resolve({ key: '', rootDisk: '', initramfs: '', scratchDisk: '' }),
    probeAccelerator: () => Promise.resolve({ accelerator: 'tcg', reason: 'fake' }),
    bootMachine: ({ name }) => Promise.resolve(newGuest(name).machine),
    bundleDaemon: () => Promise.resolve({ path: '/nowhere/daemon.js', sha256: '' }),
    deployDaemon: (machine) => {
      const guest = guests.find((each) => each.machine === machine);
      return guest === undefined
        ? Promise.reject(new Error('another machine'))
        : Promise.resolve(guest.guest);
    },
  };
}
