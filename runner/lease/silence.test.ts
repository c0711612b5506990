import test from 'ava';
import { whoIsSilent } from './silence.ts';

// As a 6.12 says it when it is asked over its serial console.
const BLOCKED = '[    7.917141] sysrq: Show Blocked State';
const CPUS = '[    9.413257] sysrq: Show backtrace of all active CPUs';
const IDLE = '[    9.413973] CPU: 0 UID: 0 PID: 0 Comm: swapper/0 Not tainted 6.12.117 #1 ';
const BUSY = '[    9.413973] CPU: 0 UID: 0 PID: 140 Comm: node Not tainted 6.12.117 #1 ';
const TASK = '[    7.917200] task:node            state:D stack:0     pid:140   tgid:140   ppid:1';
const HELP = '[    9.513257] sysrq: HELP : loglevel(0-9) reboot(b) crash(c)';

const CASES = [
  [
    'the agent still prints: the kernel has not done what it was asked',
    true,
    true,
    [BLOCKED, CPUS, IDLE, HELP],
    'kernel',
  ],
  ['a task is blocked', false, true, [BLOCKED, TASK, CPUS, IDLE, HELP], 'kernel'],
  ['a CPU is busy', false, true, [BLOCKED, CPUS, BUSY, HELP], 'kernel'],
  ['the kernel says nothing', false, true, [], 'kernel'],
  ['the kernel says only half', false, true, [BLOCKED, CPUS], 'kernel'],
  ['nothing is blocked and nothing runs', false, true, [BLOCKED, CPUS, IDLE, HELP], 'agent'],
  ['QEMU is stopped', false, false, [], 'qemu'],
] as const;

for (const [title, echoed, qemuAnswers, console, silent] of CASES) {
  test(`silence: ${title}`, (t) => {
    t.is(whoIsSilent({ echoed, qemuAnswers, console }), silent);
  });
}
