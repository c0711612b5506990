import { execFile } from 'node:child_process';
import { chmod, cp, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { projectRoot } from '#runner/lib/paths.ts';

interface Outcome {
  readonly code: number;
  readonly lines: readonly string[];
}

/** Runs .ci/run of a copy whose Makefile has these two recipes. */
async function ciRun(t: ExecutionContext, check: string, suites: string): Promise<Outcome> {
  const root = await mkdtemp(join(tmpdir(), 'fusegate-ci-run-'));
  t.teardown(() => rm(root, { recursive: true, force: true }));
  await mkdir(join(root, '.ci'));
  await cp(join(projectRoot, '.ci/run'), join(root, '.ci/run'));
  await chmod(join(root, '.ci/run'), 0o755);
  await writeFile(join(root, 'Makefile'), `check:\n\t@${check}\n\ntest:\n\t@${suites}\n`);
  return await new Promise((resolve) => {
    // No variables of a make that this test may be running under.
    const env = { PATH: process.env['PATH'] };
    execFile(join(root, '.ci/run'), { env }, (error, stdout) => {
      const code = error === null ? 0 : typeof error.code === 'number' ? error.code : -1;
      resolve({ code, lines: stdout.trimEnd().split('\n') });
    });
  });
}

const CLOSING = /^\d+ passed, \d+ failed, \d+ skipped$/;

test('.ci/run: sums both commands in one closing line, the last', async (t) => {
  const { code, lines } = await ciRun(
    t,
    "echo '10 passed, 0 failed, 1 skipped'",
    "echo '66 passed, 0 failed, 2 skipped'",
  );
  t.is(code, 0);
  t.is(lines.at(-1), '76 passed, 0 failed, 3 skipped');
  t.is(lines.filter((line) => CLOSING.test(line)).length, 1);
});

test('.ci/run: a failed check does not keep the suites from running, and decides the exit code', async (t) => {
  const { code, lines } = await ciRun(
    t,
    "echo '10 passed, 2 failed, 0 skipped'; exit 1",
    "echo '66 passed, 0 failed, 0 skipped'",
  );
  t.is(code, 1);
  t.is(lines.at(-1), '76 passed, 2 failed, 0 skipped');
});

test('.ci/run: a command that fails without a count is one failure', async (t) => {
  const { code, lines } = await ciRun(t, "echo '10 passed, 0 failed, 0 skipped'", 'exit 3');
  t.is(code, 3, "the program's own exit code, not make's");
  t.is(lines.at(-1), '10 passed, 1 failed, 0 skipped');
});
