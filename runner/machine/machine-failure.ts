import { Failure, type Blame, type Evidence } from '#runner/lib/failure.ts';
import type { ConsoleEvent, GiveUp } from './console-events.ts';
import { cleanLine } from './console-text.ts';
import type { Accelerator } from './machine.ts';
import type { ProcessEnd } from './machine-process.ts';

/** What is known about a machine when it is lost. */
export interface Witness {
  readonly accelerator: Accelerator;
  readonly initStarted: boolean;
  /** sshd was up at some time. */
  readonly booted: boolean;
  /** The first of each kind that the console showed. */
  readonly oops: string | undefined;
  readonly panic: string | undefined;
  readonly hang: string | undefined;
  readonly gaveUp: Extract<ConsoleEvent, { kind: 'gave-up' }> | undefined;
  /** Whose end that is. */
  readonly starter: 'virtme-ng' | 'QEMU';
  /** `undefined` while it runs. */
  readonly end: ProcessEnd | undefined;
  /** QEMU's own word on why it stopped. */
  readonly shutdownReason: string | undefined;
  /** Standard error of vng and QEMU. */
  readonly complaint: string;
  readonly evidence: readonly Evidence[];
  /** The end of the console so far. */
  readonly lastLines: readonly string[];
}

/** Pure: why a machine was lost, and who has to act. Called when it is known to be lost. */
export function machineFailure(witness: Witness): Failure {
  const { gaveUp } = witness;
  return (
    (gaveUp === undefined || gaveUp.reason === 'sshd ended' ? undefined : gaveUpFailure(witness, gaveUp)) ??
    faultFailure(witness) ??
    (gaveUp === undefined ? undefined : gaveUpFailure(witness, gaveUp)) ??
    endFailure(witness)
  );
}

/** Pure: the guest came up, and there is nothing in it to test. */
export function noFuse(witness: Witness): Failure {
  return fail(witness, 'E_NO_FUSE', 'kernel', 'the guest has no /dev/fuse', {
    hint: 'the kernel needs CONFIG_FUSE_FS=y, and for passthrough CONFIG_FUSE_PASSTHROUGH=y',
  });
}

/** Pure: a deadline of the boot has passed and nothing else has been heard. */
export function bootTimeout(witness: Witness, waitedMs: number, lastLine: string | undefined): Failure {
  const seconds = Math.round(waitedMs / 1000);
  if (witness.initStarted) {
    return fail(witness, 'E_NO_SSHD', 'kernel', `the guest's sshd was not up ${seconds} s after its init`, {
      hint: 'the console shows how far the init came',
    });
  }
  const heard = lastLine === undefined ? ' and its console is empty' : `; its last words: ${lastLine}`;
  return fail(witness, 'E_NO_BOOT', 'kernel', `the kernel did not reach init within ${seconds} s${heard}`, {
    hint:
      lastLine === undefined
        ? 'the kernel needs CONFIG_SERIAL_8250_CONSOLE, and CONFIG_64BIT to be started at all'
        : 'the kernel needs CONFIG_BLK_DEV_INITRD, CONFIG_RD_GZIP and CONFIG_BINFMT_SCRIPT',
  });
}

const GIVE_UP: Readonly<Record<GiveUp, readonly [code: `E_${string}`, hint: string]>> = {
  'no root disk': [
    'E_NO_ROOT_DISK',
    'the kernel needs CONFIG_VIRTIO_PCI, CONFIG_VIRTIO_BLK and CONFIG_EXT4_FS',
  ],
  'no network': [
    'E_NO_NETWORK',
    'the kernel needs CONFIG_NET, CONFIG_INET, CONFIG_PACKET and CONFIG_VIRTIO_NET',
  ],
  'no tmpfs': ['E_NO_TMPFS', 'the kernel needs CONFIG_SHMEM and CONFIG_TMPFS'],
  'sshd did not start': ['E_NO_SSHD', 'the console has the last line that sshd said'],
  'sshd ended': ['E_SSHD_ENDED', 'the console shows whether the guest ran out of memory'],
};

function gaveUpFailure(witness: Witness, event: Extract<ConsoleEvent, { kind: 'gave-up' }>): Failure {
  const [code, hint] = GIVE_UP[event.reason];
  // The kernel did all that was wanted of it: somebody in the guest ended sshd, and init the guest.
  const blame = event.reason === 'sshd ended' ? 'infra' : 'kernel';
  return fail(witness, code, blame, `the guest's init gave up: ${event.title}`, { hint });
}

function faultFailure(witness: Witness): Failure | undefined {
  const { oops, panic, hang, booted } = witness;
  if (oops !== undefined && witness.accelerator === 'tcg' && oops.startsWith('int3')) {
    return fail(
      witness,
      'E_EMULATION_SUSPECT',
      'infra',
      `the emulated CPU tripped over a breakpoint: ${oops}`,
      {
        hint: 'QEMU before 8.1 does this when a kernel patches its own code; use one CPU or a newer QEMU',
      },
    );
  }
  const fault = oops ?? panic;
  if (fault !== undefined && !booted) {
    return fail(witness, 'E_BOOT_PANIC', 'kernel', `the kernel panicked while booting: ${fault}`, {
      hint: 'the console has the whole trace; `fusegate boot` repeats only the boot',
    });
  }
  if (oops !== undefined) return fail(witness, 'E_KERNEL_OOPS', 'kernel', `the kernel oopsed: ${oops}`);
  if (panic !== undefined) return fail(witness, 'E_KERNEL_PANIC', 'kernel', `the kernel panicked: ${panic}`);
  if (hang !== undefined) return fail(witness, 'E_KERNEL_HANG', 'kernel', `the kernel hangs: ${hang}`);
  return undefined;
}

/** What QEMU complains about when it cannot start, and what that means. */
const COMPLAINTS: readonly (readonly [RegExp, `E_${string}`, string])[] = [
  [
    /Could not access KVM kernel module: Permission denied/,
    'E_KVM_PERMISSION',
    'add yourself to the group kvm, or give everyone access with a udev rule: KERNEL=="kvm", MODE="0666"',
  ],
  [/KVM|failed to set MSR|kvm_/, 'E_KVM_UNUSABLE', 'try --accel tcg'],
  [/Could not set up host forwarding rule/, 'E_PORT_TAKEN', 'another program took the port; run it again'],
  [/No space left on device/, 'E_DISK_FULL', 'the temporary directory is full'],
  [/[Cc]annot allocate memory|cannot set up guest memory/, 'E_MEMORY', 'give the machine less memory'],
];

function endFailure(witness: Witness): Failure {
  const { shutdownReason, booted } = witness;
  if (shutdownReason?.startsWith('guest-') === true) {
    const what = shutdownReason === 'guest-shutdown' ? 'switched itself off' : 'reset itself';
    if (booted) return fail(witness, 'E_GUEST_ENDED', 'kernel', `the guest ${what} without a panic`);
    return fail(witness, 'E_BOOT_PANIC', 'kernel', `the guest ${what} while booting, without a panic`, {
      hint: 'a triple fault looks like this',
    });
  }
  const said = lastComplaint(witness.complaint);
  const known = COMPLAINTS.find(([pattern]) => pattern.test(witness.complaint));
  const how = describeEnd(witness);
  const [, code, hint] = known ?? [undefined, 'E_QEMU_DIED' as const, 'the log of QEMU may say more'];
  return fail(witness, code, 'infra', `QEMU ${how}${said === '' ? '' : `: ${said}`}`, { hint });
}

/** Signals that end a program without its own doing. */
const SIGNALS: ReadonlyMap<number, string> = new Map([
  [4, 'SIGILL'],
  [6, 'SIGABRT'],
  [7, 'SIGBUS'],
  [9, 'SIGKILL'],
  [11, 'SIGSEGV'],
  [15, 'SIGTERM'],
]);

/**
 * In words. virtme-ng passes QEMU's raw wait status on as its own exit code, so a signal arrives as its number
 * (with 128 added if core was dumped) and every exit code of QEMU arrives as 0.
 */
function describeEnd({ end, starter, shutdownReason }: Witness): string {
  if (end === undefined) return 'does not answer';
  if (end.signal !== null && starter === 'virtme-ng') return `was taken down with virtme-ng by ${end.signal}`;
  const signal = end.signal ?? (starter === 'QEMU' ? undefined : SIGNALS.get((end.exitCode ?? 0) & 0x7f));
  if (shutdownReason === 'host-signal') return `was told to stop by ${signal ?? 'a signal'} from outside`;
  if (signal !== undefined) return `was killed by ${signal}`;
  return end.exitCode === 0 ? 'ended by itself' : `did not start (${starter} exited ${String(end.exitCode)})`;
}

/** The last line that is not virtme-ng's own warning about its console. */
function lastComplaint(complaint: string): string {
  const lines = complaint
    .split('\n')
    .map((line) => cleanLine(line).trim())
    .filter(
      (line) =>
        line !== '' && !/^(?:WARNING: unable to write kernel messages|\(e\.g\., inside tmux)/.test(line),
    );
  return lines.findLast((line) => line.startsWith('qemu')) ?? lines.at(-1) ?? '';
}

function fail(
  { evidence, lastLines }: Witness,
  code: `E_${string}`,
  blame: Blame,
  message: string,
  options: { readonly hint?: string } = {},
): Failure {
  return new Failure(code, blame, message, { evidence, excerpt: lastLines, ...options });
}
