import test from 'ava';
import { GOOD_CALL, openFaults, wrongCalls } from './check-order.ts';
import { expectationsFor } from './expectations.ts';

const backingId = expectationsFor({ abi: 'backing-id', features: {} });
const single = expectationsFor({ abi: 'fd', features: {} });

function errnoOf(rules: typeof backingId, name: string): string | undefined {
  return wrongCalls(openFaults(rules), GOOD_CALL).find((call) => call.name === name)?.errno;
}

test('of two faults the one that is looked at first counts', (t) => {
  t.is(errnoOf(backingId, 'flags and no descriptor'), 'EINVAL');
  t.is(errnoOf(backingId, 'no descriptor'), 'EBADF');
  t.is(errnoOf(backingId, 'device of no mount and bad pointer'), 'EPERM');
  t.is(errnoOf(single, 'bad pointer and device of no mount'), 'EFAULT', 'the other generation reads first');
});

test('what a generation does not look at hides nothing', (t) => {
  t.is(errnoOf(single, 'padding'), 'ok');
  t.is(errnoOf(single, 'padding and no descriptor'), 'EBADF');
});

test('faults of one and the same member are not put together', (t) => {
  const names = wrongCalls(openFaults(backingId), GOOD_CALL).map(({ name }) => name);
  t.false(names.includes('no descriptor and directory'));
  t.false(names.includes('device of no mount and not negotiated'));
  t.true(names.includes('directory and too deep'));
});
