import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { chmod, mkdir, readdir, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Failure } from './failure.ts';
import { cacheDir } from './paths.ts';
import { identifyProcess } from './process-table.ts';
import { reapRun } from './reap-run.ts';
import { currentBootId, isRunAlive, readRunRecord, RUN_LABEL, writeRunRecord } from './run-record.ts';

/** A run whose processes and temporary files cannot outlive it. Disposing ends it. */
export interface RunGuard extends AsyncDisposable {
  readonly id: string;
  /** Also `TMPDIR`, and so where everything that is started from now on puts its temporary files. */
  readonly tempDir: string;
}

const reaperProgram = fileURLToPath(new URL('reaper-process.ts', import.meta.url));

/**
 * Makes this process a run: labels everything that it starts from now on (by `FUSEGATE_RUN` in the
 * environment), gives it one temporary directory, and starts a small process that removes both when this one
 * is gone, `kill -9` included. Once per process.
 *
 * @throws Failure E_REAPER (infra)
 */
export async function guardRun(): Promise<RunGuard> {
  const id = randomBytes(4).toString('hex');
  const dir = cacheDir('runs', id);
  const owner = await identifyProcess(process.pid);
  if (owner === undefined) throw new Failure('E_REAPER', 'infra', '/proc is not mounted');
  const tempDir = join(plainTemporaryDirectory(), `fusegate-${id}`);
  await mkdir(dir, { recursive: true });
  await writeRunRecord(dir, { schema: 1, id, owner, bootId: await currentBootId(), tempDir });
  await mkdir(tempDir, { mode: 0o700 });
  // mmdebstrap's user namespace has to pass through, but not to look around.
  await chmod(tempDir, 0o711);

  const before = { label: process.env[RUN_LABEL], tmp: process.env['TMPDIR'] };
  const reaper = await startReaper(dir);
  process.env[RUN_LABEL] = id;
  process.env['TMPDIR'] = tempDir;
  return {
    id,
    tempDir,
    async [Symbol.asyncDispose]() {
      restore(RUN_LABEL, before.label);
      restore('TMPDIR', before.tmp);
      await reapRun(dir);
      reaper.stdin.end();
    },
  };
}

async function startReaper(dir: string): Promise<{ readonly stdin: NodeJS.WritableStream }> {
  const env = { ...process.env };
  // It must not find itself among the processes of its run, nor have its files where it removes them.
  Reflect.deleteProperty(env, RUN_LABEL);
  const reaper = spawn(process.execPath, ['--max-old-space-size=32', reaperProgram, dir], {
    cwd: '/',
    env,
    stdio: ['pipe', 'ignore', 'ignore'],
    // A session of its own: Ctrl-C on the terminal is for the run, not for its undertaker.
    detached: true,
  });
  try {
    await once(reaper, 'spawn');
  } catch (cause) {
    throw new Failure('E_REAPER', 'infra', 'the process that cleans up after a run cannot be started', {
      cause,
    });
  }
  reaper.unref();
  reaper.stdin.on('error', () => undefined);
  (reaper.stdin as unknown as { unref(): void }).unref();
  return { stdin: reaper.stdin };
}

/**
 * Cleans up after runs that ended without doing so and whose reaper did not either: the machine lost power, or
 * somebody killed both. To be called before a run starts.
 *
 * @param note told once for each such run.
 */
export async function sweepDeadRuns(note: (text: string) => void): Promise<void> {
  const runs = cacheDir('runs');
  for (const name of await readdir(runs).catch(() => [])) {
    const dir = join(runs, name);
    const record = await readRunRecord(dir);
    if (record === undefined) {
      await removeIfOld(dir);
      continue;
    }
    if (await isRunAlive(record)) continue;
    const { processes, mounts } = await reapRun(dir);
    note(`cleaned up after run ${name}, which had died: ${processes} processes, ${mounts} mounts`);
  }
}

/** A run without a record died within its first instants, or is in them now. */
async function removeIfOld(dir: string): Promise<void> {
  const found = await stat(dir).catch(() => undefined);
  if (found !== undefined && Date.now() - found.mtimeMs > 3_600_000) await rm(dir, { recursive: true });
}

/** Paths below it go into shell commands, QEMU options and socket addresses: short, and nothing special in them. */
export function plainTemporaryDirectory(): string {
  const configured = tmpdir();
  return /^\/[\w./-]{1,60}$/.test(configured) ? configured : '/tmp';
}

function restore(name: string, value: string | undefined): void {
  if (value === undefined) Reflect.deleteProperty(process.env, name);
  else process.env[name] = value;
}
