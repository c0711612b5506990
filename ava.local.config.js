// Suites on this machine's own kernel, for development: see runner/lease/run-local.ts.
export default {
  files: ['suites/**/*.test.ts', '!suites/lib/**'],
  extensions: ['ts'],
  workerThreads: false,
  concurrency: 1,
  serial: true,
  timeout: '5m',
  cache: false,
};
