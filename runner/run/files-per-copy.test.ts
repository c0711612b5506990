import test from 'ava';
import { filesPerCopy } from './files-per-copy.ts';

test('several files share a copy under emulation, where the kernel remembers nothing of them', (t) => {
  const plain = { leakScan: false, lockdep: false };
  t.true(filesPerCopy({ accelerator: 'tcg', ...plain }) > 1);
  t.is(filesPerCopy({ accelerator: 'kvm', ...plain }), 1);
  t.is(filesPerCopy({ accelerator: 'tcg', ...plain, leakScan: true }), 1);
  t.is(filesPerCopy({ accelerator: 'tcg', ...plain, lockdep: true }), 1);
});
