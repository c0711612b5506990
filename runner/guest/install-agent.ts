import { readFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { Failure } from '#runner/lib/failure.ts';
import type { BootedMachine } from '#runner/machine/machine.ts';
import { AGENT_PORT } from '#runner/machine/virtme-command.ts';
import { daemonCommand } from './daemon-command.ts';
import { REMOTE_DAEMON } from './deploy.ts';
import { explainLoss } from './explain-loss.ts';
import { shellQuote, SshConnection } from './ssh.ts';

/** Milliseconds on a machine with KVM. */
const CONNECT_MS = 5_000;
const SILENCE_MS = 10_000;
const NEWS_MS = 1_500;

/**
 * Brings the daemon into a booted machine over SSH and starts its agent on the virtio-serial port, where it
 * stays when the connection ends.
 *
 * @throws Failure of the machine when it is lost meanwhile; E_NO_PORT (kernel) when the kernel has no
 *   virtio-serial ports; E_NO_NETWORK, E_SSH_HOST_KEY, E_SSH_REFUSED as `deployDaemon`.
 */
export async function installAgent(
  machine: BootedMachine,
  bundle: { readonly path: string },
  { signal, slowdown }: { readonly signal: AbortSignal; readonly slowdown: number },
): Promise<void> {
  const orLost = <T>(work: Promise<T>): Promise<T> => explainLoss(machine, work, NEWS_MS * slowdown);
  await using ssh = await orLost(
    SshConnection.connect(machine.ssh, {
      signal,
      connectMs: CONNECT_MS * slowdown,
      silenceMs: SILENCE_MS * slowdown,
    }),
  );
  const daemon = shellQuote(REMOTE_DAEMON);
  const command = daemonCommand(machine.accelerator, REMOTE_DAEMON, 'agent', '"$port"');
  // Waiting in read(2) takes a thread of the pool for good.
  const script = [
    `mkdir -p ${shellQuote(dirname(REMOTE_DAEMON))} && cat >${daemon} || exit 1`,
    `name=$(grep -lx ${AGENT_PORT} /sys/class/virtio-ports/*/name) || exit 2`,
    'port=${name%/name}; port=/dev/${port##*/}',
    `UV_THREADPOOL_SIZE=8 setsid ${command} </dev/null >/run/fusegate/agent.log 2>&1 &`,
  ].join('\n');
  const { code, stderr } = await orLost(ssh.run(script, { input: await readFile(bundle.path), signal }));
  if (code === 2) {
    throw new Failure('E_NO_PORT', 'kernel', 'the kernel has no virtio-serial port', {
      hint: 'it needs CONFIG_VIRTIO_CONSOLE',
    });
  }
  if (code !== 0) {
    throw new Failure('E_UPLOAD', 'infra', `the daemon could not be written in the guest: ${stderr.trim()}`);
  }
}
