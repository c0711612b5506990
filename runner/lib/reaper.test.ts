import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import test, { type ExecutionContext } from 'ava';
import { acquireLock } from './file-lock.ts';
import { identifyProcess, parseStat, type ProcessIdentity } from './process-table.ts';
import { mountPointsBelow, reapRun } from './reap-run.ts';
import { sweepDeadRuns } from './reaper.ts';
import { removeDrafts } from './run-drafts.ts';
import { currentBootId, readRunRecord, writeRunRecord } from './run-record.ts';

const program = fileURLToPath(new URL('testdata/guarded-run.ts', import.meta.url));

/** What that run makes for the cache. */
const ENTRY = 'ab'.repeat(16);

interface GuardedRun {
  readonly id: string;
  readonly tempDir: string;
  readonly dir: string;
  readonly pids: readonly number[];
}

async function startGuardedRun(t: ExecutionContext) {
  const cache = await mkdtemp(join(tmpdir(), 'reaper-test-'));
  t.teardown(async () => rm(cache, { recursive: true, force: true }));
  const child = spawn(process.execPath, [program], {
    stdio: ['pipe', 'pipe', 'inherit'],
    env: { ...process.env, FUSEGATE_CACHE: cache },
  });
  t.teardown(() => child.kill('SIGKILL'));
  const [line] = (await once(child.stdout, 'data')) as [Buffer];
  const run = JSON.parse(line.toString()) as GuardedRun;
  const started = await Promise.all(run.pids.map(identifyProcess));
  t.true(started.every((identity) => identity !== undefined));
  return { cache, child, run, started: started.filter((identity) => identity !== undefined) };
}

/** Waits for what another process does; the test's own time-out is the deadline. */
async function until(condition: () => Promise<boolean>): Promise<void> {
  while (!(await condition())) await new Promise((resolve) => setTimeout(resolve, 20));
}

async function allGone(identities: readonly ProcessIdentity[]): Promise<boolean> {
  const now = await Promise.all(identities.map(async ({ pid }) => identifyProcess(pid)));
  return now.every((found, index) => found?.startTime !== identities[index]?.startTime);
}

async function isThere(path: string): Promise<boolean> {
  return (await stat(path).catch(() => undefined)) !== undefined;
}

for (const signal of ['SIGKILL', 'SIGTERM', 'SIGINT'] as const) {
  test(`reaper: after ${signal} no process, temporary file or record of the run is left`, async (t) => {
    t.timeout(30_000);
    const { cache, child, run, started } = await startGuardedRun(t);
    child.kill(signal);
    await once(child, 'exit');
    await until(async () => allGone(started));
    await until(async () => !(await isThere(join(cache, 'runs', run.id))));
    t.false(await isThere(run.tempDir));
    t.deepEqual(await readdir(join(cache, 'states')), [`${ENTRY}.lock`]);
  });
}

test('reaper: a run that ends by itself takes everything along before it exits', async (t) => {
  t.timeout(30_000);
  const { cache, child, run, started } = await startGuardedRun(t);
  child.stdin.end();
  t.deepEqual(await once(child, 'exit'), [0, null]);
  t.true(await allGone(started));
  t.false(await isThere(run.tempDir));
  t.deepEqual(await readdir(join(cache, 'runs')), []);
  t.deepEqual((await readdir(join(cache, 'states'))).sort(), [ENTRY, `${ENTRY}.lock`]);
});

test('reaper: a draft that somebody else has begun by now is his, and a note that leads elsewhere is not believed', async (t) => {
  const cache = await mkdtemp(join(tmpdir(), 'drafts-test-'));
  t.teardown(async () => rm(cache, { recursive: true, force: true }));
  const runDir = join(cache, 'runs', 'dddddddd');
  const drafts = [`states/.${ENTRY}.draft`, '.precious.draft'].map((name) => join(cache, name));
  for (const dir of [join(runDir, 'drafts'), ...drafts]) await mkdir(dir, { recursive: true });
  await writeFile(join(runDir, 'drafts', ENTRY), `states/${ENTRY}`);
  await writeFile(join(runDir, 'drafts', 'precious'), 'states/../precious');
  {
    await using _lock = await acquireLock(join(cache, 'states', `${ENTRY}.lock`));
    await removeDrafts(runDir, 200);
    t.deepEqual(await Promise.all(drafts.map(isThere)), [true, true]);
  }
  await removeDrafts(runDir);
  t.deepEqual(await Promise.all(drafts.map(isThere)), [false, true]);
});

test.serial('sweep: a dead run is cleaned up, a living one is left alone', async (t) => {
  const cache = await mkdtemp(join(tmpdir(), 'sweep-test-'));
  t.teardown(async () => rm(cache, { recursive: true, force: true }));
  const before = process.env['FUSEGATE_CACHE'];
  process.env['FUSEGATE_CACHE'] = cache;
  t.teardown(() => {
    if (before === undefined) delete process.env['FUSEGATE_CACHE'];
    else process.env['FUSEGATE_CACHE'] = before;
  });
  const own = await identifyProcess(process.pid);
  const bootId = await currentBootId();
  const owners = {
    aaaaaaaa: own ?? t.fail(),
    // Our number, but of a process that was started at another time: the number was used again.
    bbbbbbbb: { pid: process.pid, startTime: '1' },
  };
  for (const [id, owner] of Object.entries(owners)) {
    const tempDir = join(cache, `fusegate-${id}`);
    await mkdir(join(cache, 'runs', id), { recursive: true });
    await mkdir(tempDir);
    await writeFile(join(tempDir, 'left'), 'x');
    await writeRunRecord(join(cache, 'runs', id), {
      schema: 1,
      id,
      owner,
      bootId,
      tempDir,
    });
  }
  const notes: string[] = [];
  await sweepDeadRuns((text) => notes.push(text));
  t.deepEqual(await readdir(join(cache, 'runs')), ['aaaaaaaa']);
  t.true(await isThere(join(cache, 'fusegate-aaaaaaaa', 'left')));
  t.false(await isThere(join(cache, 'fusegate-bbbbbbbb')));
  t.is(notes.length, 1);
  t.regex(notes[0] ?? '', /^cleaned up after run bbbbbbbb/);
});

test('reaper: a record that names a directory of somebody else is not believed', async (t) => {
  const cache = await mkdtemp(join(tmpdir(), 'record-test-'));
  t.teardown(async () => rm(cache, { recursive: true, force: true }));
  const dir = join(cache, 'run');
  const precious = join(cache, 'precious');
  await mkdir(dir);
  await mkdir(precious);
  await writeFile(
    join(dir, 'run.json'),
    JSON.stringify({
      schema: 1,
      id: 'cccccccc',
      owner: { pid: 1, startTime: '1' },
      bootId: 'x',
      tempDir: precious,
    }),
  );
  t.is(await readRunRecord(dir), undefined);
  await reapRun(dir);
  t.true(await isThere(precious));
});

test('reaper: mounts below a directory come innermost first, and only those', (t) => {
  const mountinfo = [
    '22 1 254:0 / / rw - ext4 /dev/vda rw',
    '30 22 0:5 / /tmp/fusegate-aa/root/proc rw - proc proc rw',
    '31 22 0:6 / /tmp/fusegate-aa/root/a\\040b rw - tmpfs tmpfs rw',
    '32 22 0:7 / /tmp/fusegate-aab rw - tmpfs tmpfs rw',
  ].join('\n');
  t.deepEqual(mountPointsBelow(mountinfo, '/tmp/fusegate-aa'), [
    '/tmp/fusegate-aa/root/a b',
    '/tmp/fusegate-aa/root/proc',
  ]);
});

test('process table: a command with blanks and parentheses does not shift the fields', (t) => {
  const rest = 'S 1 77 77 0 -1 4194560 1 0 0 0 1 2 0 0 20 0 1 0 4242 9 9';
  t.deepEqual(parseStat(`123 (a) b (c)) ${rest}`), { pid: 123, state: 'S', group: 77, startTime: '4242' });
  t.is(parseStat('123 (a) S'), undefined);
});
