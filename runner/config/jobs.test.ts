import test from 'ava';
import { defaultJobs } from './jobs.ts';

for (const [cpus, freeMib, jobs] of [
  [1, 64_000, 1],
  [2, 23_000, 2],
  [2, 2_000, 1],
  [2, 100, 1],
  [64, 256_000, 4],
] as const) {
  test(`jobs: ${jobs} with ${cpus} CPUs and ${freeMib} MiB`, (t) => {
    t.is(defaultJobs(cpus, freeMib), jobs);
  });
}
