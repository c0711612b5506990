import { mkdir, open, readdir, readFile, stat, truncate, utimes } from 'node:fs/promises';
import { join } from 'node:path';
import type { RunEvent } from '#runner/lib/events.ts';
import { execOrFail } from '#runner/lib/exec.ts';
import type { Report } from '#runner/report/report.ts';
import type { DaemonBundle } from '#runner/run/parts.ts';
import type { Arena } from './arena.ts';
import { FLOOD, NO_MEMORY, PANIC, STALL } from './in-guest.ts';
import type { Role } from './victims.ts';

export interface Field {
  readonly arena: Arena;
  readonly profile: string;
  /** Made once: the end of a run is the end of the bundler's own process, which a second run would miss. */
  readonly bundle: DaemonBundle;
}

/** One thing that goes wrong, on a file of a few tests. */
export interface Fault {
  readonly name: string;
  readonly expected: string;
  /** How many tests the file has, and which of them is the one that matters. Default: three, the second. */
  readonly file?: { readonly tests: number; readonly nth: number };
  /** What that test does in the guest, as a shell command; none: nothing. */
  readonly inGuest?: string;
  /** What the tests before it do. */
  readonly inGuestBefore?: string;
  readonly options?: Readonly<Record<string, unknown>>;
  /** Done before the run, when a saved machine is there. What is given to `undo` is undone however it ends. */
  readonly before?: (field: Field, undo: AsyncDisposableStack) => Promise<void>;
  /** Kills that role when it gives true for something that happens, or stops it. */
  readonly kill?: {
    readonly role: Role;
    readonly when: (moment: Moment) => boolean;
    readonly signal?: 'SIGKILL' | 'SIGSTOP';
  };
  readonly holds: (end: End) => boolean | Promise<boolean>;
}

/** An event of the run, or a request to the agent of a restored machine: which one of its kind to that machine. */
export type Moment =
  | RunEvent
  | { readonly type: 'call'; readonly machine: string; readonly method: string; readonly nth: number };

export interface End {
  readonly exitCode: number;
  readonly report: Report;
  /** Of all tests, in their order. */
  readonly outcomes: string;
  /** Directory of the results. */
  readonly out: string;
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

async function panickedAfterFlood({ exitCode, outcomes, report, out }: End): Promise<boolean> {
  const console = report.tests[3]?.evidence.find(({ label }) => label === 'console');
  const trace = await readFile(console?.path ?? '', 'utf8').catch(() => '');
  const whole = await readFile(join(out, 'machine-1', 'console.log'), 'utf8').catch(() => '');
  return (
    exitCode === 1 &&
    outcomes === 'passed, passed, passed, crashed, passed' &&
    trace.includes('sysrq_handle_crash') &&
    whole.includes('sysrq_handle_crash') &&
    whole.includes('bytes of the console are cut out here') &&
    whole.length < 6 * 2 ** 20 &&
    report.notes.filter((note) => note.includes('floods its console')).length === 1
  );
}

const LOST = 'that test has not run, the others pass, exit 3';

/** One fault each, on a file of three tests; what is killed outside of the guest is killed by SIGKILL. */
export const FAULTS: readonly Fault[] = [
  {
    name: 'a panic in the middle of a file',
    expected: 'that test crashed, with its trace; the others pass; exit 1',
    inGuest: PANIC,
    holds: ({ exitCode, report, outcomes }) =>
      exitCode === 1 &&
      outcomes === 'passed, crashed, passed' &&
      report.faults.length === 1 &&
      report.faults[0]?.test === 'chaos/fault: second' &&
      report.tests[1]?.evidence.some(({ label }) => label === 'console') === true,
  },
  {
    name: 'a panic in the third of five tests',
    expected: 'that test crashed, the four others pass; exit 1',
    file: { tests: 5, nth: 3 },
    inGuest: PANIC,
    holds: ({ exitCode, report, outcomes }) =>
      exitCode === 1 &&
      outcomes === 'passed, passed, crashed, passed, passed' &&
      report.faults.map(({ test }) => test).join() === 'chaos/fault: third',
  },
  {
    name: 'the guest floods its console in three tests, and in the next one as well, then panics',
    expected:
      'that test crashed, with its trace, the others pass; the console is cut and that is said once; exit 1',
    file: { tests: 5, nth: 4 },
    inGuestBefore: `${FLOOD} true`,
    inGuest: `${FLOOD} ${PANIC}`,
    holds: panickedAfterFlood,
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
    name: 'the virtio-serial port goes away (its device may no longer reach memory)',
    expected: LOST,
    inGuest: NO_MEMORY,
    holds: lost,
  },
  {
    name: 'the virtio-serial port stalls (its interrupts are masked)',
    expected: LOST,
    inGuest: STALL,
    holds: (end) =>
      lost(end) && end.report.tests[1]?.message?.includes('does not answer, but its kernel does') === true,
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
    kill: {
      role: 'QEMU',
      when: (event) => event.type === 'machine-booting' && event.machine === 'machine-saved',
    },
    holds: survived,
  },
  {
    name: 'QEMU is killed while a machine is restored',
    expected: 'machines boot instead, all pass',
    kill: { role: 'QEMU', when: (event) => event.type === 'machine-booting' && event.restored === true },
    holds: survived,
  },
  {
    name: 'QEMU is killed during deployment',
    expected: 'another machine is booted, all pass',
    options: { cold: true },
    kill: { role: 'QEMU', when: (event) => event.type === 'stage-started' && event.stage === 'deploy' },
    holds: survived,
  },
  {
    name: 'QEMU is killed during a test',
    expected: 'that test has not run, or had just ended; nobody is blamed',
    kill: { role: 'QEMU', when: (event) => event.type === 'test-started' && event.id.endsWith(': second') },
    holds: noBlame,
  },
  {
    name: 'QEMU is killed between two tests',
    expected: 'nobody is blamed',
    kill: { role: 'QEMU', when: (event) => event.type === 'test-finished' && event.id.endsWith(': first') },
    holds: noBlame,
  },
  {
    name: 'QEMU is killed during the reset between two tests',
    expected: 'the first may not be told as passed nor as failed, the others pass; exit 3',
    kill: {
      role: 'QEMU',
      when: (event) => event.type === 'call' && event.method === 'reset' && event.nth === 2,
    },
    holds: ({ exitCode, outcomes }) => exitCode === 3 && outcomes === 'not-run, passed, passed',
  },
  {
    name: 'QEMU is stopped during a test',
    expected: LOST,
    kill: {
      role: 'QEMU',
      when: (event) => event.type === 'test-started' && event.id.endsWith(': second'),
      signal: 'SIGSTOP',
    },
    holds: lost,
  },
  {
    name: 'AVA is killed',
    expected: 'what was not run is said to be, exit 3',
    kill: { role: 'AVA', when: (event) => event.type === 'test-started' && event.id.endsWith(': second') },
    holds: (end) => noBlame(end) && end.report.failure?.code === 'E_AVA_FAILED',
  },
  {
    name: 'a test process is killed',
    expected: 'that test has not run, the others pass',
    kill: {
      role: 'test process',
      when: (event) => event.type === 'test-started' && event.id.endsWith(': second'),
    },
    holds: lost,
  },
  {
    name: 'the saved machine is truncated',
    expected: 'it is made anew, said once, all pass',
    before: async ({ arena }) => truncate(await stateFile(arena, 'memory'), 1_000_000),
    holds: noted(/damaged; making it anew/),
  },
  {
    name: 'the saved machine is of another QEMU',
    expected: 'machines boot, said once, all pass',
    before: async ({ arena }) => anotherVersion(await stateFile(arena, 'state')),
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
      undo.defer(async () => {
        await execOrFail('umount', [states]);
      });
    },
    holds: noted(/every machine boots/),
  },
];

async function stateFile(arena: Arena, name: 'memory' | 'state'): Promise<string> {
  const names = await readdir(arena.path('cache', 'states'));
  const key = names.find((name) => /^[0-9a-f]+$/.test(name));
  if (key === undefined) throw new Error('no machine is saved yet');
  return arena.path('cache', 'states', key, name);
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
