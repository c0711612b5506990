import { writeFile } from 'node:fs/promises';
import test from 'ava';
import { Failure } from '#runner/lib/failure.ts';
import { noticeFullDisk } from './disk-full.ts';

test('disk: a full one is told from any other error, with path and what is free', async (t) => {
  const failure = await t.throwsAsync(
    noticeFullDisk('/tmp/no/such/dir', () => writeFile('/dev/full', 'x')),
    { instanceOf: Failure },
  );
  t.is(failure.code, 'E_DISK_FULL');
  t.is(failure.blame, 'infra');
  t.regex(failure.message, /\/tmp\/no\/such\/dir \(\d+ MiB free now\)/);
});

test('disk: a tool’s word for it counts, other errors pass', async (t) => {
  const said = new Failure(
    'E_TOOL_FAILED',
    'infra',
    'tar exited 2: tar: x: Cannot write: No space left on device',
  );
  const failure = await t.throwsAsync(
    noticeFullDisk('/tmp', () => Promise.reject(said)),
    { instanceOf: Failure },
  );
  t.is(failure.code, 'E_DISK_FULL');
  const short = new Failure('E_SOURCE_UNPACK', 'infra', 'tar: Wrote only 3584 of 10240 bytes');
  t.like(await t.throwsAsync(noticeFullDisk('/tmp', () => Promise.reject(short))), { code: 'E_DISK_FULL' });
  const other = new Error('other');
  t.is(await t.throwsAsync(noticeFullDisk('/tmp', () => Promise.reject(other))), other);
});
