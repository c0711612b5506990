import { mkdir, open, readdir, rm, stat, symlink, truncate, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { loadProfile } from '#kernel/profile.ts';
import { configOf } from '#runner/cli/options.ts';
import { realParts } from '#runner/cli/real-parts.ts';
import type { RunEvent } from '#runner/lib/events.ts';
import { execOrFail } from '#runner/lib/exec.ts';
import { projectRoot } from '#runner/lib/paths.ts';
import { signalProcess } from '#runner/lib/process-table.ts';
import { guardRun } from '#runner/lib/reaper.ts';
import { RUN_LABEL } from '#runner/lib/run-record.ts';
import { comparable } from '#runner/report/comparable.ts';
import type { Report } from '#runner/report/report.ts';
import type { DaemonBundle } from '#runner/run/parts.ts';
import { run } from '#runner/run/run.ts';
import { CHAOS_LABEL, type Arena } from './arena.ts';
import type { Tried } from './render.ts';
import { findVictims, type Role } from './victims.ts';

export interface Field {
  readonly arena: Arena;
  readonly profile: string;
  /** Made once: the end of a run is the end of the bundler's own process, which a second run would miss. */
  readonly bundle: DaemonBundle;
}

interface Fault {
  readonly name: string;
  readonly expected: string;
  /** What the second of three tests does in the guest, as a shell command; none: nothing. */
  readonly inGuest?: string;
  readonly options?: Readonly<Record<string, unknown>>;
  /** Done before the run, when a saved machine is there. What is given to `undo` is undone however it ends. */
  readonly before?: (field: Field, undo: AsyncDisposableStack) => Promise<void>;
  /** Kills that role when it gives true for an event. */
  readonly kill?: readonly [role: Role, when: (event: RunEvent) => boolean];
  readonly holds: (end: End) => boolean;
}

interface End {
  readonly exitCode: number;
  readonly report: Report;
  /** Of the three tests, in their order. */
  readonly outcomes: string;
}

const lost = ({ exitCode, outcomes }: End): boolean =>
  exitCode === 3 && outcomes === 'passed, not-run, passed';
const survived = ({ exitCode, outcomes }: End): boolean =>
  exitCode === 0 && outcomes === 'passed, passed, passed';
const noBlame = ({ exitCode, report }: End): boolean =>
  (exitCode === 0 || exitCode === 3) &&
  report.faults.length === 0 &&
  report.tests.every(({ outcome }) => outcome === 'passed' || outcome === 'not-run');
const noted =
  (words: RegExp) =>
  (end: End): boolean =>
    survived(end) && end.report.notes.filter((note) => words.test(note)).length === 1;

const LOST = 'that test has not run, the others pass, exit 3';

/** One fault each, on a file of three tests; what is killed outside of the guest is killed by SIGKILL. */
export const FAULTS: readonly Fault[] = [
  {
    name: 'a panic in the middle of a file',
    expected: 'that test crashed, with its trace; the others pass; exit 1',
    inGuest: 'echo c >/proc/sysrq-trigger',
    holds: ({ exitCode, report, outcomes }) =>
      exitCode === 1 &&
      outcomes === 'passed, crashed, passed' &&
      report.faults.length === 1 &&
      report.faults[0]?.test === 'chaos/fault: second' &&
      report.tests[1]?.evidence.some(({ label }) => label === 'console') === true,
  },
  { name: 'the agent is killed in the guest', expected: LOST, inGuest: 'kill -9 $PPID', holds: lost },
  {
    name: 'the agent is stopped in the guest (its port takes and gives no bytes)',
    expected: `${LOST}; the memory of the guest is kept`,
    inGuest: 'kill -STOP $PPID',
    options: { dumpGuestMemory: true },
    holds: (end) =>
      lost(end) && end.report.tests[1]?.evidence.some(({ label }) => label === 'guest memory') === true,
  },
  {
    name: 'sshd is killed in the guest',
    expected: LOST,
    inGuest: 'for p in /proc/[0-9]*; do [ "$(cat $p/comm)" = sshd ] && kill -9 ${p#/proc/}; done; sleep 20',
    holds: lost,
  },
  {
    name: 'QEMU is killed while the machine that is to be saved boots',
    expected: 'machines boot instead, all pass',
    before: async ({ arena }) => arena.forgetStates(),
    kill: ['QEMU', (event) => event.type === 'machine-booting' && event.machine === 'machine-saved'],
    holds: survived,
  },
  {
    name: 'QEMU is killed while a machine is restored',
    expected: 'machines boot instead, all pass',
    kill: ['QEMU', (event) => event.type === 'machine-booting' && event.restored === true],
    holds: survived,
  },
  {
    name: 'QEMU is killed during deployment',
    expected: 'another machine is booted, all pass',
    options: { cold: true },
    kill: ['QEMU', (event) => event.type === 'stage-started' && event.stage === 'deploy'],
    holds: survived,
  },
  {
    name: 'QEMU is killed during a test',
    expected: 'that test has not run, or had just ended; nobody is blamed',
    kill: ['QEMU', (event) => event.type === 'test-started' && event.id.endsWith(': second')],
    holds: noBlame,
  },
  {
    name: 'QEMU is killed between two tests',
    expected: 'nobody is blamed',
    kill: ['QEMU', (event) => event.type === 'test-finished' && event.id.endsWith(': first')],
    holds: noBlame,
  },
  {
    name: 'AVA is killed',
    expected: 'what was not run is said to be, exit 3',
    kill: ['AVA', (event) => event.type === 'test-started' && event.id.endsWith(': second')],
    holds: (end) => noBlame(end) && end.report.failure?.code === 'E_AVA_FAILED',
  },
  {
    name: 'a test process is killed',
    expected: 'that test has not run, the others pass',
    kill: ['test process', (event) => event.type === 'test-started' && event.id.endsWith(': second')],
    holds: lost,
  },
  {
    name: 'the saved machine is truncated',
    expected: 'it is made anew, said once, all pass',
    before: async ({ arena }) => truncate(await stateFile(arena), 1_000_000),
    holds: noted(/damaged; making it anew/),
  },
  {
    name: 'the saved machine is of another QEMU',
    expected: 'machines boot, said once, all pass',
    before: async ({ arena }) => anotherVersion(await stateFile(arena)),
    holds: noted(/cannot be restored.*every machine boots/),
  },
  {
    name: 'the disk is full while a machine is saved',
    expected: 'machines boot, said once, all pass',
    before: async ({ arena }, undo) => {
      const states = arena.path('cache', 'states');
      await arena.forgetStates();
      await mkdir(states);
      await execOrFail('mount', ['-t', 'tmpfs', '-o', 'size=40m', 'tmpfs', states]);
      undo.defer(async () => void (await execOrFail('umount', [states])));
    },
    holds: noted(/every machine boots/),
  },
];

const SUITE = (inGuest: string | undefined): string => `
  import { guestTest } from '../lib/guest-test.ts';
  const quiet = async (t, guest) => { await guest.run(['true']); t.pass(); };
  guestTest('first', quiet);
  guestTest('second', ${
    inGuest === undefined
      ? 'quiet'
      : `async (t, guest) => { await guest.run(['sh', '-c', ${JSON.stringify(inGuest)}]); t.pass(); }`
  });
  guestTest('third', quiet);
`;

export async function tryFault(fault: Fault, field: Field): Promise<Tried> {
  const { name, expected } = fault;
  const label = `${process.pid}-${name}`;
  const dir = field.arena.path('fixture');
  await makeProject(dir, SUITE(fault.inGuest));
  process.env[CHAOS_LABEL] = label;
  try {
    const end = await runUnder(fault, field, dir);
    Reflect.deleteProperty(process.env, CHAOS_LABEL);
    const left = await field.arena.leftovers(label);
    const seen = `${end.outcomes}; exit ${end.exitCode}`;
    const wrong = fault.holds(end)
      ? []
      : [
          `not as expected: ${JSON.stringify([end.report.tests, end.report.notes, end.report.failure, comparable(end.report).faults])}`,
        ];
    return { name, expected, seen, wrong: [...wrong, ...left.map((what) => `left: ${what}`)] };
  } finally {
    Reflect.deleteProperty(process.env, CHAOS_LABEL);
    await rm(dir, { recursive: true, force: true });
  }
}

async function runUnder(fault: Fault, field: Field, dir: string): Promise<End> {
  await using undo = new AsyncDisposableStack();
  await fault.before?.(field, undo);
  return await runOnce(fault, field, dir);
}

async function runOnce(
  fault: Fault,
  { arena, profile: profileName, bundle }: Field,
  projectDir: string,
): Promise<End> {
  await using guard = await guardRun();
  let fired = false;
  const onEvent = (event: RunEvent): void => {
    if (fired || fault.kill?.[1](event) !== true) return;
    fired = true;
    void killRole(guard.id, fault.kill[0]);
  };
  const config = configOf({
    profile: profileName,
    accel: 'tcg',
    jobs: '1',
    out: arena.path('fault'),
    ...fault.options,
  });
  const { report, exitCode } = await run({
    config,
    profile: await loadProfile(profileName),
    parts: { ...realParts, bundleDaemon: () => Promise.resolve(bundle) },
    projectDir,
    sinks: [onEvent],
    signal: new AbortController().signal,
  });
  return { report, exitCode, outcomes: report.tests.map(({ outcome }) => outcome).join(', ') };
}

/** As soon as there is one. */
async function killRole(run: string, role: Role): Promise<void> {
  const until = performance.now() + 10_000;
  while (performance.now() < until) {
    const victim = (await findVictims(RUN_LABEL, run)).findLast((each) => each.role === role);
    if (victim !== undefined && (await signalProcess(victim.identity, 'SIGKILL'))) return;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/** The project with another suite in it; all else is that of the checkout. */
async function makeProject(dir: string, suite: string): Promise<void> {
  await mkdir(join(dir, 'suites', 'chaos'), { recursive: true });
  for (const name of ['node_modules', 'package.json', 'ava.config.js', 'runner', 'rootfs', 'kernel']) {
    await symlink(join(projectRoot, name), join(dir, name));
  }
  await symlink(join(projectRoot, 'suites', 'lib'), join(dir, 'suites', 'lib'));
  await writeFile(join(dir, 'suites', 'known-failures.json'), '[]\n');
  await writeFile(join(dir, 'suites', 'chaos', 'fault.test.ts'), suite);
}

async function stateFile(arena: Arena): Promise<string> {
  const names = await readdir(arena.path('cache', 'states'));
  const key = names.find((name) => /^[0-9a-f]+$/.test(name));
  if (key === undefined) throw new Error('no machine is saved yet');
  return arena.path('cache', 'states', key, 'state');
}

/**
 * A stream begins with a magic number and the version of its format, four bytes each (docs/devel/migration). The
 * file's size and time stay, so that nobody makes it anew.
 */
async function anotherVersion(path: string): Promise<void> {
  const { atime, mtime } = await stat(path);
  const file = await open(path, 'r+');
  try {
    await file.write(Buffer.from([0, 0, 0, 99]), 0, 4, 4);
  } finally {
    await file.close();
  }
  await utimes(path, atime, mtime);
}
