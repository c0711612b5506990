import { randomUUID } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import test, { type ExecutionContext } from 'ava';
import fc from 'fast-check';
import { Failure } from '#runner/lib/failure.ts';
import { processesLabelled, signalProcess } from '#runner/lib/process-table.ts';
import { fakeRun, type FakeRun } from './fake-run.ts';

// Anything may be killed at any moment. The same with real machines is `make chaos`.

const SUITE = `
  import { leased } from '../lib/leased.ts';
  for (const title of ['one', 'two', 'three']) {
    leased(title, async (t, guest) => {
      for (let call = 0; call < 5; call += 1) {
        t.is(await guest.call('hello'), 'hello');
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    });
  }
`;
const FILES = { 'suites/area/first.test.ts': SUITE, 'suites/area/second.test.ts': SUITE };
const LABEL = 'FUSEGATE_FAKE_CHAOS';

const VICTIMS = ['ava', 'test process', 'machine', 'kernel'] as const;
const plan = fc.record({
  jobs: fc.constantFrom(1, 2),
  kills: fc.array(
    fc.record({ victim: fc.constantFrom(...VICTIMS), afterMs: fc.integer({ min: 0, max: 900 }) }),
    { minLength: 1, maxLength: 3 },
  ),
});
type Kill = (typeof VICTIMS)[number];

test('chaos: whatever is killed, no verdict is wrong and nothing is left', async (t) => {
  const property = fc.asyncProperty(plan, async ({ jobs, kills }) => {
    const run = randomUUID();
    process.env[LABEL] = run;
    await using bench = await fakeRun(FILES, { jobs });
    const done: Kill[] = [];
    const timers: NodeJS.Timeout[] = [];
    const { report, exitCode } = await bench.run({}, (event) => {
      if (event.type !== 'stage-started' || event.stage !== 'suites') return;
      for (const { victim, afterMs } of kills) {
        timers.push(
          setTimeout(() => {
            void kill(victim, run, bench).then((hit) => (hit ? done.push(victim) : 0));
          }, afterMs),
        );
      }
    });
    for (const timer of timers) clearTimeout(timer);
    const told = JSON.stringify({ done, exitCode, failure: report.failure, tests: report.tests });
    const outcomes = new Set(report.tests.map(({ outcome }) => outcome));
    outcomes.delete('passed');
    outcomes.delete('not-run');
    // A kernel's panic is the only thing here for which a kernel is to blame.
    if (done.includes('kernel')) outcomes.delete('crashed');
    assert(outcomes.size === 0, `a wrong outcome: ${told}`);
    const whole = report.tests.length === 6 && report.tests.every(({ outcome }) => outcome === 'passed');
    if (exitCode === 0) assert(whole && report.verdict === 'pass', `a wrong pass: ${told}`);
    else if (exitCode === 1)
      assert(done.includes('kernel') && report.verdict === 'fail', `a wrong fail: ${told}`);
    else assert(exitCode === 3 && report.verdict === 'inconclusive', `a wrong end: ${told}`);
    assert(exitCode === 0 || done.length > 0, `nothing was killed: ${told}`);
    assert(
      bench.guests.every((guest) => guest.disposed),
      `a machine is left: ${told}`,
    );
    assert((await processesLabelled(LABEL, run)).length === 0, `a process is left: ${told}`);
  });
  await checkProperty(t, property);
});

test('chaos: one of two AVAs is killed', async (t) => {
  await using bench = await fakeRun(FILES, { jobs: 2 });
  const run = randomUUID();
  process.env[LABEL] = run;
  let started = 0;
  const { report, exitCode } = await bench.run({}, (event) => {
    if (event.type === 'test-started' && ++started === 2) void kill('ava', run, bench);
  });
  t.is(exitCode, 3);
  t.is(report.failure?.code, 'E_AVA_FAILED');
  // A test may have passed before the kill; what the other AVA ran then is no failure.
  t.true(report.tests.some(({ outcome }) => outcome === 'not-run'));
  t.deepEqual(
    report.tests.filter(({ outcome }) => outcome !== 'not-run' && outcome !== 'passed'),
    [],
  );
  t.deepEqual(await processesLabelled(LABEL, run), []);
});

test('chaos: a test process that is killed before it names a test is told', async (t) => {
  const early = `process.kill(process.pid, 'SIGKILL');\nawait new Promise(() => undefined);\n`;
  await using bench = await fakeRun({ 'suites/area/early.test.ts': early + SUITE, ...FILES });
  const { report, exitCode } = await bench.run();
  t.is(exitCode, 3);
  t.deepEqual(
    report.tests.filter(({ outcome }) => outcome !== 'passed').map(({ id, outcome }) => `${id}: ${outcome}`),
    ['area/early: the test file runs: not-run'],
  );
});

async function kill(victim: Kill, run: string, { guests }: FakeRun): Promise<boolean> {
  const guest = guests.findLast(({ disposed }) => !disposed);
  switch (victim) {
    case 'machine':
      guest?.lose(new Failure('E_QEMU_DIED', 'infra', 'QEMU was killed by SIGKILL'));
      return guest !== undefined;
    case 'kernel':
      guest?.console.push('[    9.000000] Kernel panic - not syncing: fake');
      guest?.lose(new Failure('E_KERNEL_PANIC', 'kernel', 'the kernel panicked: fake'));
      return guest !== undefined;
    default:
      return signalOne(run, victim === 'ava' ? /entrypoints\/cli\.js/ : /worker\/(?:base|main|fork)/);
  }
}

async function signalOne(run: string, pattern: RegExp): Promise<boolean> {
  for (const found of await processesLabelled(LABEL, run)) {
    const commandLine = await readFile(`/proc/${found.pid}/cmdline`, 'utf8').catch(() => '');
    if (pattern.test(commandLine)) return signalProcess(found, 'SIGKILL');
  }
  return false;
}

function assert(holds: boolean, message: string): void {
  if (!holds) throw new Error(message);
}

/** Each run takes a second: few of them, other ones every time, and no search for a smaller one. */
async function checkProperty(t: ExecutionContext, property: fc.IAsyncProperty<[unknown]>): Promise<void> {
  const result = await fc.check(property, { numRuns: 8, endOnFailure: true });
  t.false(result.failed, `seed ${result.seed}: ${String(result.errorInstance)}`);
}
