import test from 'ava';
import { Failure } from '#runner/lib/failure.ts';
import { asFailure } from './as-failure.ts';

const quiet = new AbortController().signal;

function systemError(code: string): Error {
  return Object.assign(new Error(`${code}: write`), { code, path: '/out/daemon/daemon.js' });
}

test('as-failure: a failure stays what it is', async (t) => {
  const failure = new Failure('E_NO_BOOT', 'kernel', 'no boot');
  t.is(await asFailure(failure, quiet), failure);
});

test('as-failure: an interrupt counts more than what broke because of it', async (t) => {
  const interrupt = new Failure('E_INTERRUPTED', 'interrupted', 'by SIGINT');
  const signal = AbortSignal.abort(interrupt);
  t.is(await asFailure(new Error('socket closed'), signal), interrupt);
});

test('as-failure: an error of a tear-down does not hide the failure before it', async (t) => {
  const failure = new Failure('E_KERNEL_PANIC', 'kernel', 'panic');
  t.is(await asFailure(new SuppressedError(new Error('rm failed'), failure), quiet), failure);
});

test('as-failure: a full disk has its code wherever it shows itself', async (t) => {
  const found = await asFailure(systemError('ENOSPC'), quiet);
  t.like(found, { code: 'E_DISK_FULL', blame: 'infra' });
  t.regex(found.message, /\/out\/daemon/);
  const hidden = new SuppressedError(new Error('rm failed'), systemError('EDQUOT'));
  t.is((await asFailure(hidden, quiet)).code, 'E_DISK_FULL');
});

test('as-failure: anything else is a bug of ours', async (t) => {
  t.like(await asFailure(new TypeError('x is not a function'), quiet), {
    code: 'E_BUG',
    message: 'a bug in fusegate: x is not a function',
  });
  t.is((await asFailure('a string', quiet)).code, 'E_BUG');
});
