import test from 'ava';
import { closingLine, renderResult } from './render.ts';
import { runStep } from './run-step.ts';
import type { Step } from './steps.ts';

function shell(script: string, counts: Step['counts']): Step {
  return { name: 'step', program: 'bash', args: ['-c', script], counts };
}

test('check: a step without tests of its own counts as one', async (t) => {
  const good = await runStep(shell('true', 'exit-code'));
  const bad = await runStep(shell('echo "a.ts:1 is wrong"; exit 1', 'exit-code'));
  t.is(closingLine([good, bad]), '1 passed, 1 failed, 0 skipped');
  t.regex(renderResult(bad), /^FAILED step .*\n {4}a\.ts:1 is wrong\n/);
  t.regex(renderResult(bad), /again: npx bash -c/);
});

test('check: tests are counted from their TAP', async (t) => {
  const result = await runStep(shell('printf "ok 1 - a\\nok 2 - b # SKIP\\nnot ok 3 - c\\n"; exit 1', 'tap'));
  t.is(closingLine([result]), '1 passed, 1 failed, 1 skipped');
  t.deepEqual(result.complaint.slice(0, 1), ['not ok: c']);
});

test('check: a test program that dies, or finds no tests, has failed', async (t) => {
  t.is(
    closingLine([await runStep(shell('echo "ok 1 - a"; exit 7', 'tap'))]),
    '1 passed, 1 failed, 0 skipped',
  );
  t.is(closingLine([await runStep(shell('kill -9 $$', 'tap'))]), '0 passed, 1 failed, 0 skipped');
  t.is(closingLine([await runStep(shell('true', 'tap'))]), '0 passed, 1 failed, 0 skipped');
});

test('check: a program that is not there is a failed step with its hint', async (t) => {
  const result = await runStep({ name: 'x', program: 'no-such-program', args: [], counts: 'exit-code' });
  t.is(result.failed, 1);
  t.regex(result.complaint.join('\n'), /no-such-program is not installed/);
});
