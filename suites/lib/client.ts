import type { AgentCalls, ExitRecord } from '#rootfs/protocol/calls.ts';
import type { CallResult, SyscallName, Syscalls } from '#rootfs/protocol/syscalls.ts';
import { bytes } from './bytes.ts';
import type { Lease } from './lease.ts';

export type { BatchCall, FileHandle, Stat } from '#rootfs/protocol/syscalls.ts';

/** Data may be given as text. */
type Loose<T> = T extends Uint8Array ? Uint8Array | string : T;
type LooseArgs<T> = { [K in keyof T]: Loose<T[K]> };
type Args<K extends SyscallName> = object extends Syscalls[K]['args']
  ? [args?: LooseArgs<Syscalls[K]['args']>]
  : [args: LooseArgs<Syscalls[K]['args']>];

/** Each system call by its name: gives its value, throws SyscallError. */
export type Calls = { readonly [K in SyscallName]: (...args: Args<K>) => Promise<Syscalls[K]['value']> };
/** Each system call by its name: gives the errno's name, or `ok`. */
export type Errnos = { readonly [K in SyscallName]: (...args: Args<K>) => Promise<string> };

/** A system call failed that the test needs. */
export class SyscallError extends Error {
  override readonly name = 'SyscallError';
  readonly call: string;
  readonly errno: string;

  constructor(call: string, errno: string, args: unknown) {
    super(`${call}(${describe(args)}): ${errno}`);
    this.call = call;
    this.errno = errno;
  }
}

/** Five times what a call through FUSE takes under emulation. */
const CALL_IN_BATCH_MS = 50;

interface ClientBase extends AsyncDisposable {
  readonly pid: number;
  readonly errno: Errnos;
  /** Ends the process with SIGKILL, or sends it another signal. */
  kill(signal?: NodeJS.Signals): Promise<ExitRecord | null>;
  /** Waits for the process to end by itself, by a bus error for instance. */
  exited(): Promise<ExitRecord>;
}

/**
 * A process in the guest that does what it is told. Calls run side by side on its threads; one that blocks is
 * an unsettled promise. Disposing ends it as far as a test can tell: everything it had open or mapped is gone.
 */
export type Client = ClientBase & Calls;

export interface ClientOptions {
  /** Program put before the client: `['setpriv', '--reuid=1000', …]`, `['unshare', '-Ur']`. */
  readonly launcher?: readonly string[] | undefined;
  /**
   * How long a call may take before the test fails with where it stands; one in a batch adds CALL_IN_BATCH_MS.
   * Milliseconds, default 10000.
   */
  readonly callMs?: number | undefined;
}

export async function startClient(lease: Lease, options: ClientOptions): Promise<Client> {
  const start: AgentCalls['client.start']['params'] =
    options.launcher === undefined ? {} : { launcher: options.launcher };
  const { client, pid } = await lease.call('client.start', start);
  const callMs = options.callMs ?? 10_000;
  const invoke = async (call: SyscallName, args: object): Promise<CallResult<unknown>> => {
    const timeoutMs = lease.scaled(callMs + CALL_IN_BATCH_MS * batchLength(args));
    // Arguments last: the agent passes them on as they are.
    return lease.call('client.call', { client, call, timeoutMs, args: withBytes(args) });
  };
  const base: ClientBase = {
    pid,
    errno: eachCall(async (call, args) => {
      const result = await invoke(call, args);
      return 'errno' in result ? result.errno : 'ok';
    }) as unknown as Errnos,
    kill: (signal) => lease.call('client.kill', { client, signal }),
    exited: () => lease.call('client.wait', { client, timeoutMs: lease.scaled(callMs) }),
    [Symbol.asyncDispose]: async () => {
      await lease.call('client.dispose', { client });
    },
  };
  const calls = eachCall(async (call, args) => {
    const result = await invoke(call, args);
    if ('errno' in result) throw new SyscallError(call, result.errno, args);
    return result.value;
  });
  return layered(base, calls);
}

/** An object that has a method for every name that is asked of it. */
function eachCall(call: (name: SyscallName, args: object) => Promise<unknown>): Calls {
  const answer = (_target: object, name: string | symbol): unknown => {
    // An object with `then` would be taken for a promise.
    if (typeof name === 'symbol' || name === 'then') return undefined;
    return (args: object = {}) => call(name as SyscallName, args);
  };
  return new Proxy({}, { get: answer }) as Calls;
}

function layered(base: ClientBase, calls: Calls): Client {
  const get = (target: ClientBase, name: string | symbol): unknown => {
    return name in target ? (Reflect.get(target, name) as unknown) : calls[name as SyscallName];
  };
  return new Proxy(base, { get }) as Client;
}

function batchLength(args: object): number {
  return 'calls' in args && Array.isArray(args.calls) ? args.calls.length : 0;
}

function withBytes(args: object): object {
  return Object.fromEntries(
    Object.entries(args).map(([name, value]) => [
      name,
      name === 'data' && typeof value === 'string' ? bytes(value) : value,
    ]),
  );
}

/** For messages: data are told by their length, also deep inside. */
function describe(args: unknown): string {
  const shorten = (_key: string, value: unknown): unknown => {
    return value instanceof Uint8Array ? `${value.length} bytes` : value;
  };
  return Object.entries(args as object)
    .map(([name, value]) => `${name}: ${JSON.stringify(value, shorten)}`)
    .join(', ');
}
