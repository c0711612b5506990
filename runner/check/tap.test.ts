import test from 'ava';
import { parseTap } from './tap.ts';

const STREAM = `TAP version 13
ok 1 - lock: taken once
not ok 2 - mbox: empty # of mails
  ---
    name: AssertionError
    message: Value is not \`true\`
  ...
ok 3 - kvm: runs guest code # SKIP
not ok 4 - later # TODO
ok 5

1..5
# tests 3
# fail 1
`;

test('tap: passed, failed and skipped points are counted one by one', (t) => {
  const { passed, failed, skipped } = parseTap(STREAM);
  t.deepEqual({ passed, failed, skipped }, { passed: 2, failed: 1, skipped: 2 });
});

test('tap: a failed point brings its diagnostic block and nothing else', (t) => {
  const [failure, ...others] = parseTap(STREAM).failures;
  t.is(others.length, 0);
  t.is(failure?.title, 'mbox: empty # of mails');
  t.deepEqual(
    failure?.detail.map((line) => line.trim()),
    ['---', 'name: AssertionError', 'message: Value is not `true`', '...'],
  );
});

test('tap: nothing is no pass', (t) => {
  const { passed, failed, skipped } = parseTap('');
  t.deepEqual({ passed, failed, skipped }, { passed: 0, failed: 0, skipped: 0 });
});
