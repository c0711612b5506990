export default {
  files: ['{kernel,rootfs,runner}/**/*.test.ts', 'suites/lib/**/*.test.ts'],
  extensions: ['ts'],
  workerThreads: false,
  timeout: '5m',
};
