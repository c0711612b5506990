// A run for reaper.test.ts: starts programs in every way that loses sight of them, says so, and waits.
import { spawn } from 'node:child_process';
import { mkdtemp, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { guardRun } from '../reaper.ts';

const run = await guardRun();
const child = spawn('sleep', ['1000'], { stdio: 'ignore' });
const detached = spawn('sleep', ['1001'], { stdio: 'ignore', detached: true });
// An orphan in a session of its own: its parent is gone before we are.
const shell = spawn('sh', ['-c', 'setsid sleep 1002 >/dev/null & echo $!'], { stdio: ['ignore', 'pipe', 'ignore'] });
let orphan = '';
for await (const chunk of shell.stdout) orphan += String(chunk);

const dir = await mkdtemp(join(tmpdir(), 'below-'));
await writeFile(join(dir, 'file'), 'x');
process.stdout.write(
  `${JSON.stringify({ id: run.id, tempDir: run.tempDir, dir, pids: [child.pid, detached.pid, Number(orphan)] })}\n`,
);
process.stdin.resume();
await new Promise((resolve) => process.stdin.once('end', resolve));
await run[Symbol.asyncDispose]();
