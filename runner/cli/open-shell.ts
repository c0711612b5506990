import { spawn } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Failure } from '#runner/lib/failure.ts';
import type { BootedMachine } from '#runner/machine/machine.ts';

/**
 * The system's ssh on this terminal, with this run's key and nothing of the user's configuration.
 *
 * @returns its exit code, which is that of the remote command.
 * @throws Failure E_TOOL_MISSING (infra), or that of the machine when it is lost.
 */
export async function openShell(
  machine: BootedMachine,
  command: readonly string[],
  signal: AbortSignal,
): Promise<number> {
  const dir = await mkdtemp(join(tmpdir(), 'fusegate-shell-'));
  try {
    const args = await sshArguments(dir, machine, command);
    const ended = ssh(args, signal);
    ended.catch(() => undefined);
    const result = await Promise.race([ended, machine.lost]);
    if (result instanceof Failure) throw result;
    return result;
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}

async function sshArguments(
  dir: string,
  { ssh }: BootedMachine,
  command: readonly string[],
): Promise<readonly string[]> {
  const key = join(dir, 'key');
  const hosts = join(dir, 'known_hosts');
  await writeFile(key, ssh.privateKey, { mode: 0o600 });
  const type = keyType(ssh.hostKey);
  await writeFile(hosts, `[${ssh.host}]:${ssh.port} ${type} ${ssh.hostKey}\n`);
  const options = [
    `UserKnownHostsFile=${hosts}`,
    'GlobalKnownHostsFile=/dev/null',
    'StrictHostKeyChecking=yes',
    'IdentitiesOnly=yes',
    'LogLevel=ERROR',
  ].flatMap((option) => ['-o', option]);
  const tty = command.length === 0 || process.stdin.isTTY ? ['-t'] : [];
  return [
    '-F',
    '/dev/null',
    ...options,
    ...tty,
    '-i',
    key,
    '-p',
    String(ssh.port),
    `${ssh.username}@${ssh.host}`,
    ...command,
  ];
}

/** The name that the wire format begins with: a 32-bit length and that many bytes. */
function keyType(hostKey: string): string {
  const wire = Buffer.from(hostKey, 'base64');
  return wire.subarray(4, 4 + wire.readUInt32BE(0)).toString('latin1');
}

function ssh(args: readonly string[], signal: AbortSignal): Promise<number> {
  const child = spawn('ssh', args, { stdio: 'inherit', signal, killSignal: 'SIGTERM' });
  return new Promise((resolve, reject) => {
    child.once('error', (error: NodeJS.ErrnoException) => {
      reject(error.code === 'ENOENT' ? sshMissing(error) : error);
    });
    child.once('exit', (code) => {
      resolve(code ?? 255);
    });
  });
}

function sshMissing(cause: Error): Failure {
  return new Failure('E_TOOL_MISSING', 'infra', 'ssh is not installed', {
    hint: 'install the package openssh-client',
    cause,
  });
}
