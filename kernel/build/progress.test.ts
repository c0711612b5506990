import test from 'ava';
import { isBuildStep, throttle } from './progress.ts';

test('progress: steps of kbuild’s short output count, other lines do not', (t) => {
  for (const line of [
    '  CC      fs/fuse/file.o',
    '  AR      fs/built-in.a',
    '  CC [M]  fs/x.o',
    '  HOSTCC  scripts/x',
  ]) {
    t.true(isBuildStep(line), line);
  }
  for (const line of [
    'make[1]: Entering directory',
    'CC x',
    '  note: text',
    'Kernel: arch/x86/boot/bzImage is ready',
  ]) {
    t.false(isBuildStep(line), line);
  }
});

test('progress: at most one figure per interval', (t) => {
  let now = 0;
  const due = throttle(500, () => now);
  t.true(due());
  now = 499;
  t.false(due());
  now = 500;
  t.true(due());
});
