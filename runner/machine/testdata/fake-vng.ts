// A stand-in for vng and QEMU: writes a console to standard output, keeps QEMU's end of the control channel,
// and comes to an end in the way that the kernel argument `fake=` names.
import { readFileSync, writeSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';

if (process.argv.includes('--version')) {
  process.stdout.write('virtme-ng 1.35\n');
  process.exit(0);
}

const asks = (option: string): string => process.argv[process.argv.indexOf(option) + 1] ?? '';
// As virtme-ng does, with a program of QEMU's name that is Node and plays the same again.
if (process.env['FAKE_QEMU'] !== undefined && process.argv.includes('--run')) {
  const ours = process.argv.find((word) => word.startsWith('--qemu-opts='))?.slice('--qemu-opts='.length) ?? '';
  const theirs = ['-name', asks('--name'), '-kernel', asks('--run'), '-append', asks('--append')];
  const qemu = process.env['FAKE_QEMU'];
  process.execve?.(qemu, [qemu, import.meta.filename, ...theirs, ...ours.split(' ')], process.env);
}

const commandLine = process.argv.join(' ');
const scenario = /\bfake=([a-z-]+)/.exec(commandLine)?.[1] ?? 'boots';
const control = connect(/id=control,path=(\S+)/.exec(commandLine)?.[1] ?? '');

const saved = (name: string): readonly string[] =>
  readFileSync(join(import.meta.dirname, name), 'utf8').split('\n');
const print = (...lines: readonly string[]): void => {
  for (const line of lines) writeSync(1, `${line}\r\n`);
};
const shutdown = (reason: string): void => {
  control.write(`${JSON.stringify({ event: 'SHUTDOWN', data: { guest: reason.startsWith('guest'), reason } })}\n`);
  control.end(() => process.exit(0));
};

control.on('connect', () => control.write('{"QMP": {"version": {}, "capabilities": []}}\n'));
control.on('error', () => undefined);
control.on('data', (chunk) => {
  if (chunk.includes('"quit"') && scenario !== 'deaf') shutdown('host-qmp-quit');
  if (chunk.includes('qmp_capabilities')) play();
});
if (scenario === 'deaf') for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => undefined);

const boot = ['[    1.287577] fusegate: init started', '[    2.131317] fusegate: sshd is up'];

/** Lines as a driver in a loop would print them. */
const FLOOD = '[    5.000000] fuse: something is wrong with request 0123456789abcdef\r\n'.repeat(1024);

function play(): void {
  switch (scenario) {
    case 'boots':
    case 'deaf':
      return print(...boot);
    case 'boot-panic':
      print(...saved('console-no-root-6.12.log'));
      return shutdown('guest-reset');
    case 'crash':
      print(...saved('console-sysrq-crash-6.12.log'));
      return shutdown('guest-reset');
    case 'floods':
      print(...boot);
      for (let written = 0; written < 16 * 2 ** 20; written += FLOOD.length) writeSync(1, FLOOD);
      print(...saved('console-sysrq-crash-6.12.log').slice(-40));
      return shutdown('guest-reset');
    case 'oops-without-panic':
      return print(...boot, '[    9.1] BUG: kernel NULL pointer dereference, address: 0000000000000008');
    case 'hangs':
      return print(...boot, '[   99.1] watchdog: BUG: soft lockup - CPU#0 stuck for 26s! [node:140]');
    case 'silent':
      return;
    case 'no-init':
      return print('[    0.1] Linux version 6.12.117', '[    1.0] \u001b[31mRun /init as init process\u001b[0m');
    case 'no-sshd':
      return print(boot[0] ?? '');
    case 'no-network':
      print(boot[0] ?? '', '[    1.4] fusegate: no network');
      return shutdown('guest-reset');
    case 'no-disk':
      print(boot[0] ?? '', '[    1.4] fusegate: no root disk');
      return shutdown('guest-reset');
    case 'no-fuse':
      return print(boot[0] ?? '', '[    1.4] fusegate: no /dev/fuse', boot[1] ?? '');
    case 'triple-fault':
      return shutdown('guest-reset');
    case 'reboots':
      print(...boot);
      return shutdown('guest-reset');
    case 'killed':
      print(...boot);
      return process.kill(process.pid, 'SIGKILL') ? undefined : undefined;
    case 'aborts':
      process.stderr.write('qemu-system-x86_64: error: failed to set MSR 0x10a to 0x0\n');
      process.exit(6);
      break;
    case 'no-permission':
      process.stderr.write('Could not access KVM kernel module: Permission denied\n');
      process.exit(0);
      break;
    case 'port-taken':
      process.stderr.write("qemu-system-x86_64: -netdev user: Could not set up host forwarding rule 'tcp'\n");
      process.exit(0);
      break;
    default:
      process.stderr.write(`no such scenario: ${scenario}\n`);
      process.exit(64);
  }
}
