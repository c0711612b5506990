import { chmod, mkdir, mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import type { KernelImage } from '#kernel/kernel-image.ts';
import type { RunEvent } from '#runner/lib/events.ts';
import { Failure } from '#runner/lib/failure.ts';
import { processesLabelled } from '#runner/lib/process-table.ts';
import { recogniseFaults } from '#runner/verdict/kernel-log.ts';
import { bootMachine, type BootOptions } from './boot-machine.ts';
import { bootSector } from './boot-probe.ts';
import type { Machine } from './machine.ts';
import { qemuArguments } from './virtme-command.ts';

// Machines here are a program that plays saved consoles in place of vng and QEMU; see testdata/fake-vng.ts.
const root = await mkdtemp(join(tmpdir(), 'fusegate-boot-test-'));
const temporary = join(root, 'tmp');
const bin = join(root, 'bin');
test.after.always(async () => {
  await rm(root, { recursive: true, force: true });
});

const fake = join(import.meta.dirname, 'testdata', 'fake-vng.ts');

test.before(async () => {
  await mkdir(bin);
  await mkdir(temporary);
  await program('vng', `exec ${process.execPath} ${fake} "$@"`);
  await program('qemu-system-x86_64', 'echo "QEMU emulator version 7.2.22"');
  await writeFile(join(root, 'bzImage'), fakeKernel());
  for (const name of ['root.ext4', 'scratch.ext4', 'initramfs']) await writeFile(join(root, name), 'x');
  process.env['PATH'] = `${bin}:${process.env['PATH'] ?? ''}`;
  process.env['TMPDIR'] = temporary;
});

async function program(name: string, script: string): Promise<void> {
  await writeFile(join(bin, name), `#!/bin/sh\n${script}\n`);
  await chmod(join(bin, name), 0o755);
}

function fakeKernel(): Buffer {
  const image = Buffer.alloc(1024);
  image.set(bootSector());
  image.write('HdrS', 0x202, 'latin1');
  return image;
}

const kernel = (bzImage: string): KernelImage => ({
  key: '00',
  bzImage,
  config: undefined,
  vmlinux: undefined,
  release: '6.12.117',
  imageSha256: '00',
  profile: 'test',
  role: 'base',
  series: null,
  patch: null,
});

interface Try {
  readonly options: BootOptions;
  readonly events: RunEvent[];
}

let count = 0;
function plan(scenario: string, changes: Partial<BootOptions> = {}): Try {
  const events: RunEvent[] = [];
  const options: BootOptions = {
    id: `m${++count}`,
    kernel: kernel(join(root, 'bzImage')),
    rootfs: {
      key: '00',
      rootDisk: join(root, 'root.ext4'),
      scratchDisk: join(root, 'scratch.ext4'),
      initramfs: join(root, 'initramfs'),
    },
    accelerator: 'tcg',
    runDir: join(root, 'runs'),
    append: [`fake=${scenario}`],
    timeouts: { initMs: 20_000, sshdMs: 20_000, lastWordsMs: 100, stopMs: 300 },
    emit: (event) => events.push(event),
    signal: new AbortController().signal,
    ...changes,
  };
  return { options, events };
}

/** The Failure of a boot, after which nothing of the machine may be left on the host. */
async function failedBoot(t: ExecutionContext, attempt: Try): Promise<Failure> {
  const failure = await t.throwsAsync(bootMachine(attempt.options), { instanceOf: Failure });
  t.deepEqual(await leftBehind(attempt.options), []);
  return failure;
}

/** vng's processes carry the machine's directory as TMPDIR: find them by it. */
async function leftBehind({ id }: BootOptions): Promise<readonly string[]> {
  const processes = await processesLabelled('FUSEGATE_MACHINE', id);
  return processes.map(({ pid }) => `process ${pid}`);
}

const QUICK = { initMs: 400, sshdMs: 400, lastWordsMs: 100, stopMs: 300 };

const FAILURES = [
  [
    'boot-panic',
    'E_BOOT_PANIC',
    'kernel',
    /^the kernel panicked while booting: VFS: Unable to mount root fs/,
  ],
  ['triple-fault', 'E_BOOT_PANIC', 'kernel', /^the guest reset itself while booting, without a panic/],
  ['no-disk', 'E_NO_ROOT_DISK', 'kernel', /^the guest's init gave up: no root disk/],
  ['no-network', 'E_NO_NETWORK', 'kernel', /^the guest's init gave up: no network/],
  ['no-fuse', 'E_NO_FUSE', 'kernel', /^the guest has no \/dev\/fuse/],
  ['aborts', 'E_KVM_UNUSABLE', 'infra', /^QEMU was killed by SIGABRT: .*failed to set MSR 0x10a/],
  ['no-permission', 'E_KVM_PERMISSION', 'infra', /Permission denied/],
  ['unheard-of', 'E_QEMU_DIED', 'infra', /^QEMU .*: no such scenario: unheard-of/],
] as const;

for (const [scenario, code, blame, message] of FAILURES) {
  test(`boot: ${scenario} is ${code}, blame ${blame}`, async (t) => {
    const attempt = plan(scenario);
    const failure = await failedBoot(t, attempt);
    t.is(failure.code, code);
    t.is(failure.blame, blame);
    t.regex(failure.message, message);
    t.deepEqual(
      failure.evidence.map(({ label }) => label),
      ['console', 'QEMU log'],
    );
  });
}

test('boot: a panic shows the end of the console', async (t) => {
  const { excerpt } = await failedBoot(t, plan('boot-panic'));
  t.is(excerpt.length, 8);
  t.true(excerpt.some((line) => line.endsWith('Kernel Offset: disabled')));
});

test('boot: the console keeps every byte, and reports show it without escape sequences', async (t) => {
  const attempt = plan('no-init', { timeouts: { ...QUICK, initMs: 8_000 } });
  const failure = await failedBoot(t, attempt);
  t.is(failure.code, 'E_NO_BOOT');
  t.true(failure.message.endsWith('; its last words: [    1.0] Run /init as init process'), failure.message);
  const console = await readFile(failure.evidence[0]?.path ?? '', 'utf8');
  t.true(console.includes('\u001b[31mRun /init'));
});

test('boot: a console without a word is E_NO_BOOT, too, and says that it is empty', async (t) => {
  const failure = await failedBoot(t, plan('silent', { timeouts: QUICK }));
  t.is(failure.code, 'E_NO_BOOT');
  t.regex(failure.message, /and its console is empty$/);
});

test('boot: an init without sshd is E_NO_SSHD', async (t) => {
  const failure = await failedBoot(t, plan('no-sshd', { timeouts: { ...QUICK, initMs: 20_000 } }));
  t.is(failure.code, 'E_NO_SSHD');
  t.is(failure.blame, 'kernel');
});

test('boot: a port that somebody took is tried again with another one, and the note says so', async (t) => {
  const attempt = plan('port-taken');
  const failure = await failedBoot(t, attempt);
  t.is(failure.code, 'E_PORT_TAKEN');
  t.is(attempt.events.filter(({ type }) => type === 'note').length, 2);
});

test('boot: an abort ends the wait with its own reason', async (t) => {
  const controller = new AbortController();
  const attempt = plan('silent', { signal: controller.signal });
  const booting = failedBoot(t, attempt);
  controller.abort(new Failure('E_INTERRUPTED', 'interrupted', 'Ctrl-C'));
  t.is((await booting).message, 'Ctrl-C');
});

test('boot: a file that is no kernel is refused before anything starts', async (t) => {
  await writeFile(join(root, 'vmlinux'), Buffer.concat([Buffer.from('\u007fELF'), Buffer.alloc(2000)]));
  const attempt = plan('boots', { kernel: kernel(join(root, 'vmlinux')) });
  const failure = await failedBoot(t, attempt);
  t.is(failure.code, 'E_NOT_A_KERNEL');
  t.is(failure.blame, 'user');
  t.regex(failure.hint ?? '', /perhaps vmlinux/);
  t.deepEqual(attempt.events, []);
  const missing = await failedBoot(t, plan('boots', { kernel: kernel(join(root, 'nothing')) }));
  t.is(missing.code, 'E_NOT_A_KERNEL');
});

test('boot: asked for the same, QEMU is started as virtme-ng started it before', async (t) => {
  const asked = join(root, 'asked');
  const qemu = join(root, 'qemu-system-x86_64');
  await symlink(process.execPath, qemu);
  await program('vng', `echo >>${asked}; FAKE_QEMU=${qemu} exec ${process.execPath} ${fake} "$@"`);
  t.teardown(async () => program('vng', `exec ${process.execPath} ${fake} "$@"`));
  const timesAsked = async (changes: Partial<BootOptions> = {}): Promise<number> => {
    const { options } = plan('boots', changes);
    await using machine = await bootMachine(options);
    const { commandLine, plan: own } = machine.launched;
    const [program, , ...words] = (await commandLine()) ?? [];
    t.is(program, qemu);
    t.deepEqual(words.slice(0, 4), ['-name', options.id, '-kernel', own.files.kernel]);
    t.deepEqual(words.slice(6), qemuArguments(own));
    return (await readFile(asked, 'utf8')).length;
  };
  t.is(await timesAsked(), 1);
  t.is(await timesAsked(), 1, 'asked again for the same');
  t.is(await timesAsked({ memoryMib: 512 }), 2, 'not asked for another machine');
  t.is(await timesAsked(), 2, 'asked again for the first');
});

async function booted(t: ExecutionContext, scenario: string): Promise<Machine> {
  const attempt = plan(scenario);
  const machine = await bootMachine(attempt.options);
  t.teardown(async () => machine[Symbol.asyncDispose]());
  t.deepEqual(
    attempt.events.map(({ type }) => type),
    ['machine-booting'],
  );
  t.true(machine.bootMs > 0);
  return machine;
}

const LOSSES = [
  ['crash', 'E_KERNEL_PANIC', 'kernel', 'the kernel panicked: sysrq triggered crash'],
  [
    'oops-without-panic',
    'E_KERNEL_OOPS',
    'kernel',
    'the kernel oopsed: BUG: kernel NULL pointer dereference, address: 0000000000000008',
  ],
  [
    'hangs',
    'E_KERNEL_HANG',
    'kernel',
    'the kernel hangs: watchdog: BUG: soft lockup - CPU#0 stuck for 26s! [node:140]',
  ],
  ['reboots', 'E_GUEST_ENDED', 'kernel', 'the guest reset itself without a panic'],
  ['killed', 'E_QEMU_DIED', 'infra', 'QEMU was taken down with virtme-ng by SIGKILL'],
] as const;

for (const [scenario, code, blame, message] of LOSSES) {
  test(`lost: ${scenario} is ${code}, blame ${blame}`, async (t) => {
    const machine = await booted(t, scenario);
    const failure = await machine.lost;
    t.is(failure.code, code);
    t.is(failure.blame, blame);
    t.true(failure.message.startsWith(message), failure.message);
  });
}

test('console: what was printed since an offset comes back as clean lines', async (t) => {
  const machine = await booted(t, 'boots');
  t.deepEqual(await machine.consoleSince(0), [
    '[    1.287577] fusegate: init started',
    '[    2.131317] fusegate: sshd is up',
  ]);
  t.deepEqual(await machine.consoleSince(await machine.consoleOffset()), []);
});

test('console: of a flood the head and the tail are kept, a panic after it is known with its trace', async (t) => {
  const attempt = plan('floods');
  const machine = await bootMachine(attempt.options);
  t.teardown(async () => machine[Symbol.asyncDispose]());
  const failure = await machine.lost;
  t.is(failure.code, 'E_KERNEL_PANIC');
  const { blocks } = await stat(machine.consolePath);
  t.true(blocks * 512 < 6 * 2 ** 20, `${blocks} blocks`);
  const check = (lines: readonly string[]): void => {
    t.is(lines[0], '[    1.287577] fusegate: init started');
    t.is(
      lines.filter((line) => /^fusegate: \d+ bytes of the console are cut out here$/.test(line)).length,
      1,
    );
    const [fault] = recogniseFaults(lines);
    t.is(fault?.title, 'Kernel panic - not syncing: sysrq triggered crash');
    t.true(fault?.lines.some((line) => line.includes('sysrq_handle_crash')));
  };
  check(await machine.consoleSince(0));
  t.deepEqual(
    attempt.events.flatMap((event) => (event.type === 'note' ? [event.text] : [])),
    [`${machine.id}: the guest floods its console: its first 1 MiB and its last 2 MiB are kept`],
  );
  await machine[Symbol.asyncDispose]();
  const whole = await readFile(machine.consolePath, 'utf8');
  t.true(whole.length < 6 * 2 ** 20);
  t.false(whole.includes('\0'));
  check(whole.split('\n').map((line) => line.trimEnd()));
  check(await machine.consoleSince(0));
});

test('stop: a machine that was given back is gone, and whoever waited on it hears so', async (t) => {
  const machine = await booted(t, 'boots');
  await machine[Symbol.asyncDispose]();
  t.is((await machine.lost).code, 'E_MACHINE_STOPPED');
  await machine[Symbol.asyncDispose]();
  t.pass('a second time does no harm');
});

test('stop: a machine that hears neither QMP nor SIGTERM is killed', async (t) => {
  const attempt = plan('deaf');
  const machine = await bootMachine(attempt.options);
  t.is((await leftBehind(attempt.options)).length > 0, true);
  await machine[Symbol.asyncDispose]();
  t.deepEqual(await leftBehind(attempt.options), []);
});

test.after('boot: no temporary directory is left', async (t) => {
  t.deepEqual(
    (await readdir(temporary)).filter((name) => name.startsWith('fusegate-')),
    [],
  );
});
