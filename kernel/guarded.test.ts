import test from 'ava';
import { Failure } from '#runner/lib/failure.ts';
import { execGuarded, execGuardedOrFail } from './guarded.ts';

test('guarded: output and exit code are the program’s own', async (t) => {
  const result = await execGuarded('sh', ['-c', 'echo "$1"; exit 3', 'sh', 'a b'], {});
  t.is(result.exitCode, 3);
  t.is(result.stdout.trim(), 'a b');
});

test('guarded: failures name the program, not its guard', async (t) => {
  const failed = await t.throwsAsync(
    execGuardedOrFail('sh', ['-c', 'echo why >&2; exit 2'], { code: 'E_SOURCE_UNPACK' }),
    { instanceOf: Failure, message: 'sh exited 2: why' },
  );
  t.is(failed.code, 'E_SOURCE_UNPACK');
  const missing = await t.throwsAsync(execGuarded('no-such-program', [], {}), { instanceOf: Failure });
  t.is(missing.code, 'E_TOOL_MISSING');
  t.is(missing.message, 'no-such-program is not installed');
});

test('guarded: an interruption ends the program', async (t) => {
  const controller = new AbortController();
  const running = execGuarded('sleep', ['600'], { signal: controller.signal });
  controller.abort();
  t.is((await t.throwsAsync(running, { instanceOf: Failure })).code, 'E_INTERRUPTED');
});
