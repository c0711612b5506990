import { spawn } from 'node:child_process';
import { once } from 'node:events';
import test from 'ava';
import { fieldOf, PeakMemory } from './peak-memory.ts';

test('peak memory: the kernel writes KiB', (t) => {
  const status = 'Name:\tnode\nVmPeak:\t  9 kB\nVmHWM:\t    2 kB\nVmRSS:\t 1 kB\n';
  t.is(fieldOf(status, 'VmHWM'), 2048);
  t.is(fieldOf('Pss_Dirty:   1 kB\nPss:   3 kB\n', 'Pss'), 3072);
});

test('peak memory: a process that is gone has none', (t) => {
  t.is(fieldOf('', 'VmHWM'), undefined);
});

test('peak memory: what a child took and gave back is counted, other programs are not', async (t) => {
  // The parent starts a child that holds 60 MB for a moment, and a shell.
  const hold = `Buffer.alloc(60e6, 1); setTimeout(() => {}, 1500)`;
  const parent = `
    const { spawn } = require('node:child_process');
    spawn('sleep', ['3']).unref();
    spawn(process.execPath, ['-e', ${JSON.stringify(hold)}]).on('exit', () => process.exit());`;
  const child = spawn(process.execPath, ['-e', parent], { stdio: 'ignore' });
  using peak = new PeakMemory(child.pid ?? 0);
  await once(child, 'exit');
  t.true(peak.ofRootMb > 5, `runner ${peak.ofRootMb}`);
  t.true(peak.ofAllMb > 75, `all ${peak.ofAllMb}`);
  t.true(peak.ofAllMb < 400, `all ${peak.ofAllMb}`);
});
