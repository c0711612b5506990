export default {
  files: ['{kernel,rootfs,runner}/**/*.test.ts', 'suites/lib/**/*.test.ts'],
  extensions: ['ts'],
  workerThreads: false,
  // Tests of one file start programs: side by side they would only wait for each other.
  serial: true,
  timeout: '5m',
};
