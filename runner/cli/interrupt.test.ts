import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import test from 'ava';
import { projectRoot } from '#runner/lib/paths.ts';
import { processesLabelled } from '#runner/lib/process-table.ts';
import { RUN_LABEL } from '#runner/lib/run-record.ts';

// The real program, ended in every way while it makes the guest image with a mmdebstrap that never ends and
// has children that hide from its process group.

const root = await mkdtemp(join(tmpdir(), 'fusegate-interrupt-'));
const bin = join(root, 'bin');
const bzImage = join(root, 'bzImage');
test.after.always(() => rm(root, { recursive: true, force: true }));

test.before(async () => {
  await mkdir(bin);
  const endless = `echo started > "$FUSEGATE_CACHE/started"\nsetsid sleep 1000 &\nexec sleep 1001`;
  for (const [name, script] of [
    ['mmdebstrap', endless],
    ['vng', 'echo virtme-ng 1.35'],
    ['qemu-system-x86_64', 'echo QEMU emulator version 7.2.22'],
  ] as const) {
    await writeFile(join(bin, name), `#!/bin/sh\n${script}\n`);
    await chmod(join(bin, name), 0o755);
  }
  const image = Buffer.alloc(1024);
  image.writeUInt16LE(0xaa55, 0x1fe);
  image.write('HdrS', 0x202, 'latin1');
  await writeFile(bzImage, image);
});

/** Generous: nothing here is a measurement, and the machine may be busy. */
const LIMIT_MS = 60_000;

/** Until `look` sees something other than `undefined`. */
async function until<T>(look: () => Promise<T | undefined>, what: string): Promise<T> {
  const deadline = performance.now() + LIMIT_MS;
  while (performance.now() < deadline) {
    const seen = await look();
    if (seen !== undefined) return seen;
    await wait(20);
  }
  throw new Error(`no ${what} within ${LIMIT_MS} ms`);
}

const ENDS = [
  ['SIGINT', [130, null]],
  ['SIGTERM', [130, null]],
  ['SIGHUP', [130, null]],
  ['SIGKILL', [null, 'SIGKILL']],
] as const;

for (const [signal, how] of ENDS) {
  test.serial(`interrupt: after ${signal} nothing of a run stays`, async (t) => {
    const cache = join(root, signal);
    const temporary = join(root, `${signal}-tmp`);
    const out = join(root, `${signal}-out`);
    await mkdir(cache);
    await mkdir(temporary);
    const args = ['boot', '--accel', 'tcg', '--kernel', bzImage, '--out', out];
    const child = spawn(process.execPath, [join(projectRoot, 'runner/cli/fusegate.js'), ...args], {
      stdio: 'ignore',
      env: {
        ...process.env,
        PATH: `${bin}:${process.env['PATH'] ?? ''}`,
        FUSEGATE_CACHE: cache,
        TMPDIR: temporary,
      },
    });
    const ended = once(child, 'exit');
    // A failed assertion must not leave it running: the worker would wait for it.
    t.teardown(() => child.kill('SIGKILL'));
    await until(() => readFile(join(cache, 'started')).catch(() => undefined), 'image build');
    const [run = ''] = await readdir(join(cache, 'runs'));
    // Those that hide are started after the word that the build has.
    await until(
      async () => ((await processesLabelled(RUN_LABEL, run)).length >= 3 ? true : undefined),
      'third process of the run',
    );
    child.kill(signal);
    t.deepEqual(await ended, how);

    // After SIGKILL the reaper does it, a moment later.
    await until(
      async () => ((await readdir(join(cache, 'runs'))).length === 0 ? true : undefined),
      'end of the run record',
    );
    t.deepEqual(await processesLabelled(RUN_LABEL, run), []);
    t.deepEqual(await readdir(temporary), []);
    if (signal === 'SIGKILL') return;
    const report = JSON.parse(await readFile(join(out, 'report.json'), 'utf8')) as { failure: unknown };
    t.like(report.failure, { code: 'E_INTERRUPTED', blame: 'interrupted' });
  });
}
