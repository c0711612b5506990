import test from 'ava';
import { CLOSED, counter, sequences, step, type InodeModes, type ModeStep } from './io-mode-model.ts';

function play(...steps: readonly ModeStep[]): { errnos: string[]; end: InodeModes } {
  let end = CLOSED;
  const errnos = steps.map((what) => {
    const answer = step(end, what);
    if (answer === null) return 'nothing';
    end = answer.after;
    return answer.errno;
  });
  return { errnos, end };
}

test('I/O modes: the first open that counts decides, until the last that counts is closed', (t) => {
  t.deepEqual(play('open-cached', 'open-passthrough-1', 'close-oldest', 'open-passthrough-1').errnos, [
    'ok',
    'EIO',
    'ok',
    'ok',
  ]);
  t.deepEqual(play('open-passthrough-1', 'open-cached', 'open-direct', 'open-passthrough-2').errnos, [
    'ok',
    'EIO',
    'EIO',
    'EIO',
  ]);
});

test('I/O modes: a direct open counts for nothing until it is mapped, and then until it is closed', (t) => {
  const kept = play('open-direct', 'map-direct', 'open-passthrough-1', 'close-oldest', 'open-passthrough-1');
  t.deepEqual(kept.errnos, ['ok', 'ok', 'EIO', 'ok', 'ok']);
  t.is(counter(kept.end), -1);
  t.deepEqual(play('open-direct', 'open-passthrough-1', 'map-direct').errnos, ['ok', 'ok', 'ENODEV']);
});

test('I/O modes: no step without a file that it is about', (t) => {
  t.deepEqual(play('close-oldest', 'map-direct', 'open-cached', 'map-direct').errnos, [
    'nothing',
    'nothing',
    'ok',
    'nothing',
  ]);
});

test('I/O modes: every sequence of up to four steps is there once', (t) => {
  t.deepEqual(
    [1, 2, 3, 4].map((length) => sequences(length).length),
    [3, 11, 54, 265],
  );
  const all = sequences(4).map((steps) => steps.join());
  t.is(new Set(all).size, all.length);
});
