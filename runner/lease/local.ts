import { spawn, type ChildProcessByStdio } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { createServer, type Server, type Socket } from 'node:net';
import { release, tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable, Writable } from 'node:stream';
import type { ResetReport } from '#rootfs/protocol/calls.ts';
import { encodeFrame, FrameDecoder } from '#rootfs/protocol/frame.ts';
import { RpcPeer, RpcRefusal } from '#rootfs/protocol/peer.ts';
import type { RpcRequest } from '#rootfs/protocol/rpc.ts';
import { Failure } from '#runner/lib/failure.ts';
import { projectRoot } from '#runner/lib/paths.ts';
import type { AcquireResult, Finding, FinishResult } from './messages.ts';

/** Mounts stand-ins for the guest's backing filesystems, then becomes the agent. Arguments: directory, bundle. */
const INSIDE = `
set -eu
mkdir -p "$1/ext4" "$1/tmpfs"
mount -t tmpfs fusegate-ext4 "$1/ext4"
mount -t tmpfs fusegate-tmpfs "$1/tmpfs"
exec "$2" "$3" agent
`;

/** Everything the agent starts dies with it, and its mounts are nobody else's. */
const NAMESPACES = [
  '--mount',
  '--pid',
  '--fork',
  '--kill-child=KILL',
  '--mount-proc',
  '--propagation=private',
];

type AgentProcess = ChildProcessByStdio<Writable, Readable, null>;

/**
 * The agent on this machine instead of in a guest, behind the same lease socket: for working on the daemon and
 * on suites without a virtual machine. A verdict never comes from here: the kernel under test is the host's,
 * and the "ext4" is a tmpfs.
 */
export class LocalBroker implements AsyncDisposable {
  readonly socketPath: string;
  readonly #dir: string;
  readonly #agent: AgentProcess;
  readonly #peer: RpcPeer;
  readonly #server: Server;
  /** One lease at a time: the next waits for the previous one's end. */
  #turn: Promise<void> = Promise.resolve();

  private constructor(dir: string, agent: AgentProcess) {
    this.#dir = dir;
    this.#agent = agent;
    this.#peer = new RpcPeer((frame) => agent.stdin.write(frame));
    agent.stdin.on('error', () => undefined);
    agent.stdout.on('data', (chunk: Buffer) => this.#peer.receive(chunk));
    agent.on('exit', (code, signal) => {
      this.#peer.close(new RpcRefusal('machine-lost', `the local agent ended: ${signal ?? String(code)}`));
    });
    this.socketPath = join(dir, 'lease');
    this.#server = createServer((socket) => void this.#serve(socket));
  }

  /** @throws Failure when this machine cannot do it; see `whyNotLocal`. */
  static async start(bundle: string): Promise<LocalBroker> {
    const dir = await mkdtemp(join(tmpdir(), 'fusegate-local-'));
    const mnt = join(dir, 'mnt');
    await mkdir(mnt);
    const script = ['sh', '-c', INSIDE, 'sh', mnt, process.execPath, bundle];
    const agent = spawn('unshare', [...NAMESPACES, ...script], {
      stdio: ['pipe', 'pipe', 'inherit'],
      env: { ...process.env, FUSEGATE_MNT: mnt, FUSEGATE_MODULES: projectRoot },
    });
    const broker = new LocalBroker(dir, agent);
    await broker.call('hello', {}).catch((error: unknown) => {
      throw new Failure('E_AGENT', 'infra', 'the local agent does not answer', { cause: error });
    });
    broker.#server.listen(broker.socketPath);
    await once(broker.#server, 'listening');
    return broker;
  }

  call(method: string, params: unknown): Promise<unknown> {
    return this.#peer.call(method, params);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.close();
    const gone = once(this.#agent, 'exit');
    this.#agent.stdin.end();
    const timer = setTimeout(() => this.#agent.kill('SIGKILL'), 3000);
    if (this.#agent.exitCode === null && this.#agent.signalCode === null) await gone;
    clearTimeout(timer);
    await rm(this.#dir, { recursive: true, force: true });
  }

  async #serve(socket: Socket): Promise<void> {
    const decoder = new FrameDecoder();
    const over = Promise.withResolvers<undefined>();
    socket.on('close', () => over.resolve(undefined));
    socket.on('error', () => socket.destroy());
    const granted = this.#turn;
    let clean = false;
    this.#turn = over.promise.then(async () => {
      if (!clean) await this.#reset().catch(() => undefined);
    });
    const answer = async ({ id, method, params }: RpcRequest): Promise<void> => {
      try {
        const result = await this.#dispatch(method, params, granted);
        clean = method === 'lease.finish';
        socket.write(encodeFrame({ id, result }));
      } catch (error) {
        socket.write(encodeFrame({ id, error: stateError(error) }));
      }
    };
    socket.on('data', (chunk: Buffer) => {
      for (const message of decoder.push(chunk)) void answer(message as RpcRequest);
    });
    await over.promise;
  }

  async #dispatch(method: string, params: unknown, granted: Promise<void>): Promise<unknown> {
    switch (method) {
      case 'lease.acquire':
        await granted;
        return {
          machine: 'local',
          profile: 'local',
          abi: 'backing-id',
          features: {},
          release: release(),
          accelerator: 'kvm',
          slowdown: 1,
        } satisfies AcquireResult;
      case 'lease.skip':
        return null;
      case 'lease.finish':
        return { findings: findingsOf(await this.#reset()), evidence: [] } satisfies FinishResult;
      default:
        return this.call(method, params);
    }
  }

  async #reset(): Promise<ResetReport> {
    return (await this.call('reset', { deadlineMs: 5000 })) as ResetReport;
  }
}

/** Why a `LocalBroker` cannot be started on this machine, or undefined. */
export async function whyNotLocal(): Promise<string | undefined> {
  if (process.getuid?.() !== 0) return 'needs root';
  const probe = spawn('unshare', [...NAMESPACES, 'sh', '-c', 'exec 3<>/dev/fuse'], { stdio: 'ignore' });
  const [code] = (await once(probe, 'exit').catch(() => [1])) as [number | null];
  return code === 0 ? undefined : 'needs /dev/fuse and namespaces';
}

function stateError(error: unknown): { code: string; message: string } {
  if (error instanceof RpcRefusal) return { code: error.code, message: error.message };
  return { code: 'internal', message: error instanceof Error ? error.message : String(error) };
}

const COMPLAINT = /\b(WARNING:|BUG:|Oops|general protection fault|INFO: task )/;

function findingsOf(report: ResetReport): Finding[] {
  return [
    ...report.leftMounts.map(({ mountPoint, type }) => {
      return { kind: 'left-mount' as const, message: `${type} on ${mountPoint} was left mounted` };
    }),
    ...report.leftConnections.map((connection) => {
      return { kind: 'left-mount' as const, message: `FUSE connection ${connection} did not go away` };
    }),
    ...report.leftProcesses.map(({ pid, role }) => {
      return { kind: 'left-process' as const, message: `${role} ${pid} was left running` };
    }),
    ...(report.backingBusy === true
      ? [
          {
            kind: 'backing-busy' as const,
            message: `a backing filesystem is busy: ${report.stuck.join('; ')}`,
          },
        ]
      : []),
    ...(report.newTaint === 0
      ? []
      : [{ kind: 'taint' as const, message: `the kernel is tainted by ${report.newTaint}` }]),
    ...report.kernelLog
      .filter(({ text }) => COMPLAINT.test(text))
      .map(({ text }) => ({ kind: 'kernel-log' as const, message: text })),
  ];
}
