// The suites. `fusegate run` starts AVA with this file; without a machine to lease every test fails at once.
import { fileOrder } from './runner/ava/file-order.ts';
import { observeRun } from './runner/ava/observe.ts';

export default {
  files: ['suites/**/*.test.ts', '!suites/lib/**'],
  extensions: ['ts'],
  // A test process may be killed, and a crash in it must not take others along.
  workerThreads: false,
  // Machines are what is scarce: files queue here and not at the lease broker, where AVA's clock would run.
  concurrency: 1,
  serial: true,
  sortTestFiles: fileOrder(),
  // AVA's idle clock is the last resort only: it kills the process without any tear-down.
  timeout: '20m',
  cache: false,
  color: false,
  utilizeParallelBuilds: false,
  nonSemVerExperiments: { observeRunsFromConfig: true },
  observeRun,
};
