import test from 'ava';
import { parseKmsg } from './kernel-log.ts';

test('a record of /dev/kmsg gives level, sequence, time and text', (t) => {
  const record = parseKmsg('6,339,5140900,-;NET: Registered PF_INET6\n SUBSYSTEM=net\n DEVICE=+net:lo\n');
  t.deepEqual(record, { level: 6, seq: 339, timeUs: 5_140_900, text: 'NET: Registered PF_INET6' });
});

test('the facility is no part of the level', (t) => {
  t.is(parseKmsg('12,1,2,c;from user space')?.level, 4);
});

test('what is not a record is left out', (t) => {
  t.is(parseKmsg('no such thing'), undefined);
});
