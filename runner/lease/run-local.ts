import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { bundleDaemon } from '#rootfs/daemon/bundle.ts';
import { projectRoot } from '#runner/lib/paths.ts';
import { LocalBroker, whyNotLocal } from './local.ts';
import { LEASE_SOCKET_ENV } from './messages.ts';

/**
 * For development: `node runner/lease/run-local.ts suites/passthrough-io/read-write.test.ts --match='…'` runs
 * suites against the kernel of this machine. Arguments go to AVA.
 */
const reason = await whyNotLocal();
if (reason !== undefined) throw new Error(`suites cannot run on this machine itself: ${reason}`);
const out = await mkdtemp(join(tmpdir(), 'fusegate-bundle-'));
try {
  await using broker = await LocalBroker.start((await bundleDaemon(out)).path);
  const args = [
    join(projectRoot, 'node_modules/.bin/ava'),
    '--config',
    'ava.local.config.js',
    ...process.argv.slice(2),
  ];
  const env = { ...process.env, [LEASE_SOCKET_ENV]: broker.socketPath };
  const ava = spawn(process.execPath, args, { cwd: projectRoot, env, stdio: 'inherit' });
  const [code] = (await once(ava, 'exit')) as [number | null];
  process.exitCode = code ?? 1;
} finally {
  await rm(out, { recursive: true, force: true });
}
