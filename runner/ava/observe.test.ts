import { readFile } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import test from 'ava';
import type { AvaEvent } from './ava-event.ts';
import type { FakeProject } from './fake-project.ts';
import { fakeProject } from './fake-project.ts';
import type { RunAvaOptions } from './run-ava.ts';
import { runAva } from './run-ava.ts';
import { exactMatch } from './test-id.ts';

// The contract with AVA's experiment: the real AVA, a small project, and what we are told of it.

test('observe: pass, failure, skip and todo are told with titles and messages', async (t) => {
  await using project = await fakeProject({
    'suites/area/plain.test.ts': `
      import test from 'ava';
      test('passes', (t: any) => { t.is(1 as number, 1); });
      test('fails', (t: any) => { t.is(1, 2, 'one is not two'); });
      test('throws', () => { throw new RangeError('out of range'); });
      test.skip('is skipped', (t: any) => { t.pass(); });
      test.todo('is to do');
    `,
  });
  const events = await run(project);
  t.deepEqual(
    of(events, 'selected').map(({ title, declared }) => `${title}: ${declared}`),
    ['passes: run', 'fails: run', 'throws: run', 'is skipped: skip', 'is to do: todo'],
  );
  t.deepEqual(
    of(events, 'passed').map(({ title }) => title),
    ['passes'],
  );
  const [fails, throws] = of(events, 'failed');
  t.is(fails?.title, 'fails');
  t.regex(fails?.message ?? '', /^one is not two\n[\s\S]*1[\s\S]*2[\s\S]*plain\.test\.ts:4$/);
  t.regex(throws?.message ?? '', /^RangeError: out of range\n/);
  t.is(relative(project.dir, fails?.file ?? ''), 'suites/area/plain.test.ts');
  t.deepEqual(
    of(events, 'file-finished').map(({ how }) => how),
    [null],
  );
  t.deepEqual(
    of(events, 'file-started').map(({ file }) => relative(project.dir, file)),
    ['suites/area/plain.test.ts'],
  );
  t.is(events[0]?.type, 'file-started');
  t.deepEqual(events.at(-1), { type: 'ended', interrupted: false });
});

test('observe: an uncaught exception, a killed process and a file that does not load are told', async (t) => {
  await using project = await fakeProject({
    'suites/area/uncaught.test.ts': `
      import test from 'ava';
      test('waits', async (t: any) => {
        setTimeout(() => { throw new Error('nobody caught me'); }, 10);
        await new Promise((resolve) => setTimeout(resolve, 5000));
        t.pass();
      });
    `,
    'suites/area/killed.test.ts': `
      import test from 'ava';
      test('dies', async (t: any) => {
        process.kill(process.pid, 'SIGKILL');
        await new Promise((resolve) => setTimeout(resolve, 5000));
        t.pass();
      });
    `,
    'suites/area/broken.test.ts': `import './not-there.ts';`,
  });
  const events = await run(project);
  const errors = of(events, 'file-error').map(({ message }) => message);
  t.true(errors.some((message) => message.startsWith('uncaught exception: Error: nobody caught me')));
  t.true(errors.some((message) => message.includes('not-there.ts')));
  const deaths = of(events, 'file-finished').map(
    ({ file, how }) => `${relative(project.dir, file)} ${String(how)}`,
  );
  t.true(deaths.includes('suites/area/killed.test.ts was ended by SIGKILL'), deaths.join());
  t.true(deaths.includes('suites/area/uncaught.test.ts exited 1'), deaths.join());
  t.is(of(events, 'passed').length + of(events, 'failed').length, 0);
});

test('observe: AVA kills a silent test process, and says so', async (t) => {
  await using project = await fakeProject(
    {
      'suites/area/silent.test.ts': `
        import test from 'ava';
        test('is silent', async (t: any) => {
          await new Promise((resolve) => setTimeout(resolve, 60_000));
          t.pass();
        });
      `,
    },
    '1s',
  );
  const events = await run(project);
  t.deepEqual(of(events, 'timeout'), [{ type: 'timeout', periodMs: 1000 }]);
  t.deepEqual(
    of(events, 'file-finished').map(({ how }) => how),
    ['was killed by AVA'],
  );
});

test('observe: only what is asked for is selected', async (t) => {
  const title = 'a*b \\ [c]';
  await using project = await fakeProject({
    'suites/one/first.test.ts': `
      import test from 'ava';
      test(${JSON.stringify(title)}, (t: any) => { t.pass(); });
      test('aXb \\\\ [c]', (t: any) => { t.pass(); });
    `,
    'suites/two/second.test.ts': `import test from 'ava'; test('other', (t: any) => { t.pass(); });`,
  });
  const events = await run(project, { files: ['suites/one'], match: [exactMatch(title)] });
  t.deepEqual(
    of(events, 'passed').map((event) => event.title),
    [title],
  );
});

test('run AVA: a test process that refuses to end does not keep AVA alive', async (t) => {
  await using project = await fakeProject(
    {
      'suites/area/stubborn.test.ts': `
        import test from 'ava';
        process.on('SIGTERM', () => {});
        test('is stubborn', async (t: any) => {
          await new Promise((resolve) => setTimeout(resolve, 60_000));
          t.pass();
        });
      `,
    },
    // Long enough for the file to be loaded and its handler to stand, on a busy machine.
    '8s',
  );
  const failure = await t.throwsAsync(run(project, { graceMs: 500 }), { name: 'Failure' });
  t.is((failure as unknown as { code: string }).code, 'E_AVA_FAILED');
});

test('run AVA: an abort ends AVA and its test processes', async (t) => {
  await using project = await fakeProject({
    'suites/area/long.test.ts': `
      import test from 'ava';
      import { writeFileSync } from 'node:fs';
      test('is long', async (t: any) => {
        writeFileSync('pid', String(process.pid));
        await new Promise((resolve) => setTimeout(resolve, 60_000));
        t.pass();
      });
    `,
  });
  const controller = new AbortController();
  const events = await run(project, { signal: controller.signal }, (event) => {
    if (event.type === 'selected')
      void setTimeout(500).then(() => {
        controller.abort();
      });
  });
  t.deepEqual(of(events, 'passed'), []);
  const pid = Number(await readFile(join(project.dir, 'pid'), 'utf8'));
  await t.notThrowsAsync(gone(pid));
});

/** Resolves when the process has ended; the one who has to collect it may take its time. */
async function gone(pid: number): Promise<void> {
  for (let attempt = 0; attempt < 100; attempt++) {
    const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => undefined);
    if (stat === undefined || /\) [ZX] /.test(stat)) return;
    await setTimeout(50);
  }
  throw new Error(`process ${pid} lives on`);
}

async function run(
  project: FakeProject,
  options: Partial<RunAvaOptions> = {},
  onEvent?: (event: AvaEvent) => void,
): Promise<readonly AvaEvent[]> {
  const events: AvaEvent[] = [];
  await runAva({
    projectDir: project.dir,
    files: [],
    match: [],
    log: project.log,
    env: {},
    signal: new AbortController().signal,
    ...options,
    onEvent: (event) => {
      events.push(event);
      onEvent?.(event);
    },
  });
  return events;
}

function of<T extends AvaEvent['type']>(
  events: readonly AvaEvent[],
  type: T,
): readonly (AvaEvent & { type: T })[] {
  return events.filter((event): event is AvaEvent & { type: T } => event.type === type);
}
