import test from 'ava';
import { machineFailure, type Witness } from './machine-failure.ts';

const witness: Witness = {
  accelerator: 'tcg',
  starter: 'QEMU',
  initStarted: true,
  booted: true,
  oops: undefined,
  panic: undefined,
  hang: undefined,
  gaveUp: undefined,
  end: undefined,
  shutdownReason: undefined,
  complaint: '',
  evidence: [],
  lastLines: [],
};

/** SIGKILL for QEMU as its parent is told: virtme-ng gives its number on as an exit code. */
const KILLED = {
  QEMU: { exitCode: null, signal: 'SIGKILL' },
  'virtme-ng': { exitCode: 9, signal: null },
} as const;

for (const starter of ['QEMU', 'virtme-ng'] as const) {
  test(`the end of QEMU below ${starter}: killed, told to stop, not started`, (t) => {
    const say = (changes: Partial<Witness>): string =>
      machineFailure({ ...witness, starter, ...changes }).message;
    t.is(say({ end: KILLED[starter] }), 'QEMU was killed by SIGKILL');
    t.is(
      say({ end: { exitCode: 0, signal: null }, shutdownReason: 'host-signal' }),
      'QEMU was told to stop by a signal from outside',
    );
    t.is(
      say({ end: { exitCode: 1, signal: null }, complaint: 'qemu-system-x86_64: no such disk\n' }),
      `QEMU did not start (${starter} exited 1): qemu-system-x86_64: no such disk`,
    );
  });
}

test('the end of virtme-ng itself is told apart from that of QEMU', (t) => {
  const end = { exitCode: null, signal: 'SIGKILL' } as const;
  const failure = machineFailure({ ...witness, starter: 'virtme-ng', end });
  t.is(failure.message, 'QEMU was taken down with virtme-ng by SIGKILL');
  t.is(failure.blame, 'infra');
});
