import { existsSync, mkdirSync } from 'node:fs';
import { release } from 'node:os';
import {
  PROTOCOL_VERSION,
  type AgentCalls,
  type AgentMethod,
  type ExitRecord,
} from '../../protocol/calls.ts';
import { RpcRefusal } from '../../protocol/peer.ts';
import { servePort, serveStdio, type RpcPass } from '../rpc/server.ts';
import { flagBits } from '../sys/constants.ts';
import { cString } from '../sys/memory.ts';
import { listMounts } from '../sys/mount.ts';
import { syscall } from '../sys/syscall.ts';
import { learnBackings, mountBacking, umountBacking } from './backing.ts';
import { calibrate } from './calibrate.ts';
import { Children } from './children.ts';
import { abortConnection, mountFusectl, waitingRequests } from './connections.ts';
import { whereItWaits } from './forensics.ts';
import { KernelObjects } from './kernel-objects.ts';
import { KernelLog, kernelTaint, markKernelLog } from './kernel-log.ts';
import { passCall } from './passing.ts';
import { makeDirectory, TEST_AREA } from './places.ts';
import { renameMachine, renewMachine } from './restored.ts';
import { collectLogs, reset, type TestState } from './reset.ts';
import { runProgram } from './run.ts';
import { findSpareDisk } from './spare-disk.ts';
import { changesTheProcess } from './spoiling.ts';

const CALL_TIMEOUT_MS = 30_000;
const KILL_DEADLINE_MS = 5_000;

type Handlers = {
  readonly [M in AgentMethod]: (
    params: AgentCalls[M]['params'],
  ) => AgentCalls[M]['result'] | Promise<AgentCalls[M]['result']>;
};

/**
 * The first process of the daemon: answers the host, starts servers and clients. It never touches a FUSE
 * mount itself, so that it can always answer; what has to, happens in a client that may be killed.
 *
 * @param port virtio-serial port on which the host speaks; standard input and output when it is not given.
 */
export function runAgent(port?: string): void {
  mkdirSync(TEST_AREA, { recursive: true });
  mountFusectl();
  learnBackings();
  const state: TestState = {
    children: new Children(),
    kernelLog: new KernelLog(),
    connections: new Set(),
    requestLogs: new Map(),
    taint: kernelTaint(),
    objects: new KernelObjects(),
  };
  const end = (): void =>
    void Promise.all([state.children.clear(1000), state.children.clearIdle(1000)]).finally(() =>
      process.exit(0),
    );
  const pass: RpcPass = (text, write) => passCall(state.children, text, write);
  if (port === undefined) serveStdio(handlersOf(state), end, pass);
  else servePort(port, handlersOf(state), end, pass);
}

function handlersOf(state: TestState): Handlers {
  return { ...generalHandlers(state), ...childHandlers(state), ...mountHandlers() };
}

type Part<M extends AgentMethod> = Pick<Handlers, M>;

function generalHandlers(
  state: TestState,
): Part<
  | 'hello'
  | 'restored'
  | 'run'
  | 'dir.make'
  | 'process.where'
  | 'kernel.log'
  | 'kernel.mark'
  | 'kernel.taint'
  | 'reset'
> {
  return {
    hello: () => {
      // Started in advance, but not before the host has its answer: it waits for nothing else.
      setImmediate(() => state.children.prepare());
      return {
        protocol: PROTOCOL_VERSION,
        kernelRelease: release(),
        node: process.version,
        pid: process.pid,
        calibrationMs: calibrate(),
        devFuse: existsSync('/dev/fuse'),
      };
    },
    restored: ({ machine, epochMs, entropy }) => {
      renewMachine(epochMs, entropy);
      renameMachine(machine);
      markKernelLog(`restored from a saved machine as ${machine}`);
      return null;
    },
    run: runProgram,
    'dir.make': ({ in: place, name }) => ({ path: makeDirectory(place, name) }),
    'process.where': ({ pid }) => ({ text: whereItWaits(pid) }),
    'kernel.log': ({ after }) => ({ records: state.kernelLog.read(after) }),
    'kernel.mark': ({ text }) => {
      markKernelLog(text);
      return null;
    },
    'kernel.taint': () => ({ mask: kernelTaint() }),
    reset: async ({ deadlineMs }) => {
      const report = await reset(state, deadlineMs ?? KILL_DEADLINE_MS);
      state.children.prepare();
      return report;
    },
  };
}

type ChildMethod = Extract<AgentMethod, `server.${string}` | `client.${string}`>;

function childHandlers(state: TestState): Part<ChildMethod> {
  const { children, connections } = state;
  return {
    'server.start': async (options) => {
      const { id, pid } = await children.start('server', options);
      return { server: id, pid };
    },
    'server.call': async ({ server, method, params, timeoutMs }) => {
      const result = await children.get(server).call(method, params, timeoutMs ?? CALL_TIMEOUT_MS);
      if (method === 'server.mount') connections.add((result as { connection: number }).connection);
      return result;
    },
    'server.dispose': async ({ server }) => {
      await collectLogs(state, server);
      return children.dispose(server, KILL_DEADLINE_MS);
    },
    'server.kill': async ({ server, signal }) => {
      await collectLogs(state, server);
      return children.kill(server, signalOf(signal), KILL_DEADLINE_MS);
    },
    'client.start': async (options) => {
      const { id, pid } = await children.start('client', options);
      return { client: id, pid };
    },
    'client.call': async ({ client, call, args, timeoutMs }) => {
      const child = children.get(client);
      if (changesTheProcess(call, args)) child.spoil();
      const result = await child.call(call, args, timeoutMs ?? CALL_TIMEOUT_MS);
      return result as AgentCalls['client.call']['result'];
    },
    'client.dispose': ({ client }) => children.dispose(client, KILL_DEADLINE_MS),
    'client.kill': ({ client, signal }) => children.kill(client, signalOf(signal), KILL_DEADLINE_MS),
    'client.wait': ({ client, timeoutMs }) =>
      ended(children.get(client).exited, timeoutMs ?? CALL_TIMEOUT_MS),
  };
}

function mountHandlers(): Part<
  | 'mounts.list'
  | 'mounts.umount'
  | 'backing.umount'
  | 'backing.mount'
  | 'spare-disk.find'
  | 'connection.abort'
  | 'connection.waiting'
> {
  return {
    'mounts.list': () => ({ mounts: listMounts() }),
    // On a thread of the pool: should the kernel never return from it, the agent still answers.
    'mounts.umount': ({ mountPoint, flags }) => syscall('umount2', cString(mountPoint), flagBits(flags)),
    'backing.umount': ({ backing }) => umountBacking(backing),
    'backing.mount': ({ backing }) => mountBacking(backing),
    'spare-disk.find': () => ({ device: findSpareDisk() }),
    'connection.abort': ({ connection }) => {
      abortConnection(connection);
      return null;
    },
    'connection.waiting': ({ connection }) => ({ waiting: waitingRequests(connection) }),
  };
}

function signalOf(name: string | undefined): NodeJS.Signals {
  const signal = name ?? 'SIGKILL';
  flagBits(signal);
  return signal as NodeJS.Signals;
}

function ended(exit: Promise<ExitRecord>, timeoutMs: number): Promise<ExitRecord> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      reject(new RpcRefusal('deadline', `the process did not end in ${timeoutMs} ms`));
    }, timeoutMs);
    void exit.then((record) => {
      clearTimeout(timer);
      resolve(record);
    });
  });
}
