import { reapRun } from './reap-run.ts';

/**
 * The process that outlives a run. Its standard input is a pipe from the run's process, which the kernel
 * closes when that process ends, however it ends. Argument: the directory of the run's record; a run that
 * has cleaned up after itself has removed it.
 */
const [dir] = process.argv.slice(2);
// Somebody who stops a run stops its processes one after the other; we are needed until the end.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => undefined);

process.stdin.on('error', () => undefined);
process.stdin.resume();
process.stdin.once('close', () => {
  if (dir !== undefined) void reapRun(dir);
});
