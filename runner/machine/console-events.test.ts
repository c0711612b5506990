import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { consoleEvent } from './console-events.ts';
import { cleanLine, withoutPrefix } from './console-text.ts';

const LINES = [
  ['[    1.287577] fusegate: init started\r', 'init-started', undefined],
  ['[    2.1][    T1] fusegate: sshd is up', 'sshd-up', undefined],
  ['<3>[    2.1] fusegate: no /dev/fuse', 'no-fuse', undefined],
  ['[    2.1] fusegate: no network', 'gave-up', 'no network'],
  ['[    2.1] fusegate: sshd did not start: bad key', 'gave-up', 'sshd did not start: bad key'],
  ['[    9.4] Kernel panic - not syncing: sysrq triggered crash', 'panic', 'sysrq triggered crash'],
  ['[    9.4] Kernel panic - not syncing: ', 'panic', 'no reason given'],
  ['BUG: unable to handle page fault for address: ffffffffdeadbeef', 'oops', undefined],
  ['[    3.0] BUG: kernel NULL pointer dereference, address: 0000000000000000', 'oops', undefined],
  ['[    3.0] Oops: Oops: 0002 [#1] SMP NOPTI', 'oops', undefined],
  ['[    3.0] Oops: 0002 [#1] PREEMPT SMP', 'oops', undefined],
  ['[    3.0] kernel BUG at fs/fuse/file.c:123!', 'oops', undefined],
  [
    '[    3.0] general protection fault, probably for non-canonical address 0x6b6b6b6b: 0000 [#1] SMP',
    'oops',
    undefined,
  ],
  ['[    3.0] int3: 0000 [#1] SMP', 'oops', undefined],
  ['[   90.1] INFO: task node:140 blocked for more than 60 seconds.', 'hang', undefined],
  ['[   90.1] INFO: task umount:9 blocked in I/O wait for more than 60 seconds.', 'hang', undefined],
  ['[   90.1] watchdog: BUG: soft lockup - CPU#0 stuck for 26s! [node:140]', 'hang', undefined],
  ['[   90.1] rcu: INFO: rcu_sched self-detected stall on CPU', 'hang', undefined],
  ['[   90.1] rcu: INFO: rcu_preempt detected expedited stalls on CPUs/tasks: { 1-... }', 'hang', undefined],
  ['[   90.1] watchdog: CPU3: Watchdog detected hard LOCKUP on cpu 3', 'hang', undefined],
] as const;

for (const [line, kind, title] of LINES) {
  test(`console: ${cleanLine(line)}`, (t) => {
    const event = consoleEvent(line);
    t.is(event?.kind, kind);
    if (title !== undefined) t.is(event !== undefined && 'title' in event ? event.title : undefined, title);
  });
}

test('console: a boot without trouble has exactly our two events', (t) => {
  const path = join(import.meta.dirname, 'testdata', 'console-sysrq-crash-6.12.log');
  const events = readFileSync(path, 'utf8').split('\n').map(consoleEvent);
  t.deepEqual(
    events.filter((event) => event !== undefined).map(({ kind }) => kind),
    ['init-started', 'sshd-up', 'panic'],
  );
});

test('console: the command line that mentions panic and oops is neither', (t) => {
  t.is(consoleEvent('[    0.0] Kernel command line: panic=-1 oops=panic console=ttyS0'), undefined);
  t.is(consoleEvent('[    0.5] WARNING: CPU: 0 PID: 1 at fs/fuse/dev.c:1 fuse_dev_do_read'), undefined);
  t.is(consoleEvent('[    0.5] a user wrote: fusegate: sshd is up'), undefined);
});

test('console: escape sequences, controls and bidirectional marks do not get through', (t) => {
  t.is(cleanLine('a\u001b[2Jb\u001b]0;title\u0007c\u009b1md\u202ee\u0008f\tg\r'), 'abcdef\tg');
  t.is(withoutPrefix('<6>[   12.345678][  T123] hello'), 'hello');
});

test('console: a line without an end is cut', (t) => {
  t.true(cleanLine('x'.repeat(100_000)).length <= 4096);
});
