import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { Failure } from '#runner/lib/failure.ts';
import { loadReport } from '#runner/report/load-report.ts';
import { renderText } from '#runner/report/render-text.ts';
import { comparable } from '#runner/report/comparable.ts';
import { fakeRun } from './fake-run.ts';

test('run: all pass', async (t) => {
  await using bench = await fakeRun({
    'suites/area/good.test.ts': `
      import { leased } from '../lib/leased.ts';
      leased('works', async (t, guest) => { t.is(await guest.call('hello'), 'hello'); });
      leased('works too', async (t, guest) => { t.is(await guest.call('hello'), 'hello'); });
    `,
  });
  const { report, exitCode } = await bench.run();
  t.is(exitCode, 0);
  t.is(report.verdict, 'pass');
  t.deepEqual(report.counts, { passed: 2, failed: 0, skipped: 0, knownFailures: 0 });
  t.deepEqual(
    report.tests.map(({ id, kernel }) => [id, kernel]),
    [
      ['area/good: works', 'mainline-6.12/base'],
      ['area/good: works too', 'mainline-6.12/base'],
    ],
  );
  t.like(report.kernels[0], { release: '6.12.0-fake', accelerator: 'tcg', role: 'base', patch: null });
  t.not(report.timings.bootMs, null);
  t.not(report.timings.suitesMs, null);
  t.deepEqual(await loadReport(bench.out), report);
  t.is(renderText(report).trimEnd().split('\n').at(-1), '2 passed, 0 failed, 0 skipped');
  t.true(bench.guests.every((guest) => guest.disposed));
});

test('run: a failed assertion, a left mount, a skip and a killed test process are told apart', async (t) => {
  await using bench = await fakeRun({
    'suites/area/mixed.test.ts': `
      import test from 'ava';
      import { leased } from '../lib/leased.ts';
      leased('asserts wrongly', async (t) => { t.is(1, 2, '::error::boo \\u001b[31m'); });
      leased('leaves a mount', async (t, guest) => { await guest.call('leave'); t.pass(); });
      leased('dies', async () => { process.kill(process.pid, 'SIGKILL'); await new Promise(() => setTimeout(() => {}, 9e5)); });
      leased('runs after the death', async (t) => { t.pass(); });
      leased('has a reason', async (t, guest) => { await guest.call('lease.skip', { reason: 'no ids here' }); t.pass(); });
      test.skip('is switched off', (t: any) => { t.pass(); });
    `,
  });
  const { report, exitCode } = await bench.run();
  t.is(exitCode, 1);
  const said = Object.fromEntries(report.tests.map((test) => [test.title, test]));
  t.is(said['asserts wrongly']?.outcome, 'failed');
  t.regex(said['asserts wrongly']?.message ?? '', /^: :error::boo \n/);
  t.is(said['leaves a mount']?.outcome, 'failed');
  t.is(said['leaves a mount']?.message?.split('\n')[0], 'a mount was left behind: /area/m');
  t.is(said['dies']?.outcome, 'not-run');
  t.is(said['dies']?.message, 'the test process was ended by SIGKILL from outside');
  t.is(said['runs after the death']?.outcome, 'passed');
  t.is(said['has a reason']?.outcome, 'skipped');
  t.is(said['has a reason']?.message, 'no ids here');
  t.is(said['is switched off']?.outcome, 'skipped');
  t.deepEqual(report.counts, { passed: 1, failed: 2, skipped: 3, knownFailures: 0 });
  const text = renderText(report);
  t.true(
    text.includes("again: npx fusegate run --profile mainline-6.12 --suite area --match 'asserts wrongly'"),
  );
  t.notRegex(text, /^\s*::/m);
});

test('run: a kernel that panics during a test fails that test and no other', async (t) => {
  await using bench = await fakeRun({
    'suites/area/panic.test.ts': `
      import { leased } from '../lib/leased.ts';
      leased('panics', async (t, guest) => { t.is(await guest.call('panic'), 'ok'); });
      leased('runs on another machine', async (t, guest) => { t.is(await guest.call('hello'), 'hello'); });
    `,
  });
  const { report, exitCode } = await bench.run();
  t.is(exitCode, 1);
  t.deepEqual(
    report.tests.map(({ title, outcome }) => `${title}: ${outcome}`),
    ['panics: crashed', 'runs on another machine: passed'],
  );
  t.like(report.faults[0], { kind: 'panic', test: 'area/panic: panics', kernel: 'mainline-6.12/base' });
  t.is(report.faults.length, 1);
  t.true(report.tests[0]?.evidence.some(({ label }) => label === 'console'));
});

test('run: a panic in the third test costs that test, and the rest of the file goes on on a new machine', async (t) => {
  const quiet = (title: string): string =>
    `leased('${title}', async (t, guest) => { t.is(await guest.call('hello'), 'hello'); });`;
  await using bench = await fakeRun({
    'suites/area/third.test.ts': `
      import { leased } from '../lib/leased.ts';
      ${quiet('first')}
      ${quiet('second')}
      leased('third', async (t, guest) => { t.is(await guest.call('panic'), 'ok'); });
      ${quiet('fourth')}
      ${quiet('fifth')}
    `,
  });
  const machines: string[] = [];
  const { report, exitCode } = await bench.run({}, (event) => {
    if (event.type === 'test-started') machines.push(event.machine);
  });
  t.is(exitCode, 1);
  t.deepEqual(
    report.tests.map(({ title, outcome }) => `${title}: ${outcome}`),
    ['first: passed', 'second: passed', 'third: crashed', 'fourth: passed', 'fifth: passed'],
  );
  t.deepEqual(machines, ['machine-1', 'machine-1', 'machine-1', 'machine-2', 'machine-2']);
  t.like(report.faults[0], { kind: 'panic', test: 'area/third: third' });
  t.is(report.faults.length, 1);
  const trace = report.tests[2]?.evidence.find(({ label }) => label === 'console')?.path ?? '';
  t.regex(await readFile(trace, 'utf8'), /Kernel panic - not syncing: fake/);
});

test('run: one machine and two give the same report but for times and machines', async (t) => {
  const file = (name: string): string => `
    import test from 'ava';
    import { leased } from '../lib/leased.ts';
    leased('${name} works', async (t, guest) => { t.is(await guest.call('hello'), 'hello'); });
    leased('${name} asserts wrongly', async (t) => { t.is(1, 2); });
    leased('${name} panics', async (t, guest) => { t.is(await guest.call('panic'), 'ok'); });
    leased('${name} leaves a mount', async (t, guest) => { await guest.call('leave'); t.pass(); });
    leased('${name} has a reason', async (t, guest) => { await guest.call('lease.skip', { reason: 'r' }); t.pass(); });
    test.skip('${name} is switched off', (t: any) => { t.pass(); });
    leased('${name} goes on', async (t, guest) => { t.is(await guest.call('hello'), 'hello'); });
  `;
  const files = Object.fromEntries(
    ['b', 'a', 'd', 'c'].map((name) => [`suites/area/${name}.test.ts`, file(name)]),
  );
  const results = await Promise.all(['1', '2'].map((jobs) => resultsOf(files, jobs)));
  t.is(results[0]?.tests.length, 28);
  t.is(results[0]?.faults.length, 4);
  t.deepEqual(results[1], results[0]);
});

test('run: a machine that infrastructure took away makes no verdict', async (t) => {
  await using bench = await fakeRun({
    'suites/area/lost.test.ts': `
      import { leased } from '../lib/leased.ts';
      leased('loses its machine', async (t, guest) => { t.is(await guest.call('kill'), 'ok'); });
      leased('is fine', async (t, guest) => { t.is(await guest.call('hello'), 'hello'); });
    `,
  });
  const { report, exitCode } = await bench.run();
  t.is(exitCode, 3);
  t.is(report.verdict, 'inconclusive');
  t.deepEqual(
    report.tests.map(({ outcome }) => outcome),
    ['not-run', 'passed'],
  );
  t.deepEqual(report.faults, []);
});

test('run: a test file that does not load is a failure, not a gap', async (t) => {
  await using bench = await fakeRun({ 'suites/area/broken.test.ts': `import '../lib/not-there.ts';` });
  const { report, exitCode } = await bench.run();
  t.is(exitCode, 1);
  t.is(report.tests[0]?.id, 'area/broken: the test file runs');
  t.regex(report.tests[0]?.message ?? '', /not-there/);
});

test('run: a known failure does not fail, and one that passes does', async (t) => {
  const entry = { profiles: ['mainline-6.12'], reason: 'broken upstream', link: 'https://lore.example/x' };
  await using bench = await fakeRun({
    'suites/area/known.test.ts': `
      import { leased } from '../lib/leased.ts';
      leased('fails as known', async (t) => { t.fail('as always'); });
      leased('was mended', async (t) => { t.pass(); });
      leased('is expired', async (t) => { t.fail('still'); });
    `,
    'suites/known-failures.json': JSON.stringify([
      { ...entry, id: 'area/known: fails as known', expires: '2999-01-01' },
      { ...entry, id: 'area/known: was mended', expires: '2999-01-01' },
      { ...entry, id: 'area/known: is expired', expires: '2001-01-01' },
    ]),
  });
  const { report, exitCode } = await bench.run();
  t.is(exitCode, 1);
  t.deepEqual(
    report.tests.map(({ outcome }) => outcome),
    ['known-failure', 'failed', 'failed'],
  );
  t.regex(report.tests[1]?.message ?? '', /remove the entry/);
  t.regex(report.tests[2]?.message ?? '', /expired on 2001-01-01/);
  t.is(report.counts.knownFailures, 1);
});

test('run: nothing matches', async (t) => {
  await using bench = await fakeRun({ 'suites/area/good.test.ts': GOOD }, { match: ['no such title'] });
  const { report, exitCode } = await bench.run();
  t.is(exitCode, 2);
  t.is(report.failure?.code, 'E_NO_TESTS');
  t.deepEqual(report.kernels, [], 'known before a kernel was made');
});

test('run: several machines share the files', async (t) => {
  await using bench = await fakeRun(
    { 'suites/one/a.test.ts': GOOD, 'suites/two/b.test.ts': GOOD, 'suites/two/c.test.ts': GOOD },
    { jobs: '2' },
  );
  const { report, exitCode } = await bench.run();
  t.is(exitCode, 0);
  t.deepEqual(report.tests.map(({ id }) => id).toSorted(), ['one/a: works', 'two/b: works', 'two/c: works']);
  t.true(bench.guests.length <= 2);
});

test('run: a series that does not apply ends the run, and the image with it', async (t) => {
  await using bench = await fakeRun({ 'suites/area/good.test.ts': GOOD });
  let imageEnded = false;
  const { report, exitCode } = await bench.run({
    prepareKernel: () => Promise.reject(new Failure('E_SERIES_CONFLICT', 'series', 'patch 2 does not apply')),
    buildRootfs: ({ signal }) =>
      new Promise((_resolve, reject) => {
        signal.addEventListener('abort', () => {
          imageEnded = true;
          reject(signal.reason as Error);
        });
      }),
  });
  t.is(exitCode, 4);
  t.is(report.verdict, 'fail');
  t.is(report.failure?.code, 'E_SERIES_CONFLICT');
  t.true(imageEnded);
});

test('run: a kernel that does not boot fails before any test', async (t) => {
  await using bench = await fakeRun({ 'suites/area/good.test.ts': GOOD });
  const { report, exitCode } = await bench.run({
    bootMachine: () => Promise.reject(new Failure('E_BOOT_PANIC', 'kernel', 'the kernel panicked at boot')),
  });
  t.is(exitCode, 1);
  t.is(report.verdict, 'fail');
  t.deepEqual(
    report.faults.map(({ kind }) => kind),
    ['no-boot'],
  );
  t.is(report.tests.length, 0);
});

test('run: machines that stop booting end the run and say what did not run', async (t) => {
  await using bench = await fakeRun({
    'suites/area/lost.test.ts': `
      import { leased } from '../lib/leased.ts';
      leased('loses its machine', async (t, guest) => { t.is(await guest.call('kill'), 'ok'); });
      leased('waits for another', async (t) => { t.pass(); });
      leased('and another', async (t) => { t.pass(); });
    `,
  });
  let boots = 0;
  const { report, exitCode } = await bench.run({
    bootMachine: (request) => {
      boots += 1;
      if (boots > 1) throw new Failure('E_QEMU_DIED', 'infra', 'QEMU ended at once');
      return bench.parts.bootMachine(request, { emit: () => undefined, signal: AbortSignal.abort() });
    },
  });
  t.is(exitCode, 3);
  t.is(boots, 3);
  t.is(report.failure?.code, 'E_QEMU_DIED');
  t.is(report.verdict, 'inconclusive');
  t.is(report.tests.length, 3);
  t.true(
    report.tests.every(({ outcome }) => outcome === 'not-run'),
    JSON.stringify(report.tests),
  );
});

test('run: an interrupt during a test ends in order, with a report', async (t) => {
  await using bench = await fakeRun({
    'suites/area/long.test.ts': `
      import { leased } from '../lib/leased.ts';
      leased('is long', async (t, guest) => { t.is(await guest.call('hang'), 'ok'); });
      leased('never runs', async (t) => { t.pass(); });
    `,
  });
  const { report, exitCode } = await bench.run({}, (event, abort) => {
    if (event.type === 'test-started') abort();
  });
  t.is(exitCode, 130);
  t.is(report.verdict, 'inconclusive');
  t.deepEqual(
    report.tests.map(({ outcome }) => outcome),
    ['not-run', 'not-run'],
  );
  t.true(bench.guests.every((guest) => guest.disposed));
});

test('run: a bug of ours is told as one, and still leaves a report', async (t) => {
  await using bench = await fakeRun({ 'suites/area/good.test.ts': GOOD });
  await t.throwsAsync(bench.run({ bundleDaemon: () => Promise.reject(new TypeError('oh no')) }), {
    instanceOf: TypeError,
  });
  const saved = JSON.parse(await readFile(join(bench.out, 'report.json'), 'utf8')) as {
    failure: { code: string };
  };
  t.is(saved.failure.code, 'E_BUG');
});

const GOOD = `
  import { leased } from '../lib/leased.ts';
  leased('works', async (t, guest) => { t.is(await guest.call('hello'), 'hello'); });
`;

/** Of a report what must not depend on how many machines there were. */
async function resultsOf(files: Readonly<Record<string, string>>, jobs: string) {
  await using bench = await fakeRun(files, { jobs });
  const { report, exitCode } = await bench.run();
  return { exitCode, ...comparable(report) };
}
