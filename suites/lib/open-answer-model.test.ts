import test from 'ava';
import { OpenFlag } from '#rootfs/protocol/fuse.ts';
import { expectationsFor } from './expectations.ts';
import {
  answeredOpen,
  everyPassthroughAnswer,
  openAnswerNames,
  PAIRS_OF_FLAGS,
} from './open-answer-model.ts';

const backingId = expectationsFor({ abi: 'backing-id', features: {} });
const single = expectationsFor({ abi: 'fd', features: {} });
const { PASSTHROUGH, DIRECT_IO, KEEP_CACHE, NOFLUSH, STREAM } = OpenFlag;

test('PASSTHROUGH wants an id and few other flags', (t) => {
  t.is(answeredOpen(backingId, PASSTHROUGH, true).data, 'backing file');
  t.is(answeredOpen(backingId, PASSTHROUGH | DIRECT_IO | NOFLUSH, true).data, 'server');
  t.is(answeredOpen(backingId, PASSTHROUGH, false).open, 'EIO');
  t.is(answeredOpen(backingId, PASSTHROUGH | KEEP_CACHE, true).open, 'EIO');
  t.is(answeredOpen(backingId, KEEP_CACHE | STREAM, true).open, 'ok');
});

test('in the 2021 series the id alone decides', (t) => {
  t.is(answeredOpen(single, DIRECT_IO, true).data, 'backing file');
  t.is(answeredOpen(single, PASSTHROUGH, false).data, 'server');
});

test('every combination with PASSTHROUGH is among those to be tried, where the kernel looks at it', (t) => {
  const tried = everyPassthroughAnswer(backingId);
  t.is(tried.filter((bits) => (bits & PASSTHROUGH) !== 0).length, 256);
  t.deepEqual(everyPassthroughAnswer(single), PAIRS_OF_FLAGS);
});

test('flags are told by their names', (t) => {
  t.is(openAnswerNames(0), '0');
  t.is(openAnswerNames(PASSTHROUGH | NOFLUSH | (1 << 8)), 'NOFLUSH|PASSTHROUGH|0x100');
});
