// A run for reaper.test.ts: starts programs in every way that loses sight of them, says so, and waits.
import { spawn } from 'node:child_process';
import { mkdtemp, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { storeEntry } from '../content-store.ts';
import { cacheDir } from '../paths.ts';
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
// And is in the middle of making something for the cache.
const ended = Promise.withResolvers<undefined>();
const begun = Promise.withResolvers<undefined>();
const made = storeEntry({
  dir: cacheDir('states', 'ab'.repeat(16)),
  files: ['state'],
  make: async (draft) => {
    await writeFile(join(draft, 'state'), 'x');
    begun.resolve(undefined);
    await ended.promise;
  },
});
await begun.promise;
process.stdout.write(
  `${JSON.stringify({ id: run.id, tempDir: run.tempDir, dir, pids: [child.pid, detached.pid, Number(orphan)] })}\n`,
);
process.stdin.resume();
await new Promise((resolve) => process.stdin.once('end', resolve));
ended.resolve(undefined);
await made;
await run[Symbol.asyncDispose]();
