import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

// What a test leaves in the cache must not reach that of whoever runs it.
const cache = mkdtempSync(join(tmpdir(), 'fusegate-unit-cache-'));
process.on('exit', () => rmSync(cache, { recursive: true, force: true }));

export default {
  files: ['{kernel,rootfs,runner}/**/*.test.ts', 'suites/lib/**/*.test.ts'],
  extensions: ['ts'],
  workerThreads: false,
  // Tests of one file start programs: side by side they would only wait for each other.
  serial: true,
  timeout: '5m',
  environmentVariables: { FUSEGATE_CACHE: cache },
};
