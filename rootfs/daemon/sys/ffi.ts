import { createRequire } from 'node:module';
import { existsSync } from 'node:fs';
import { join } from 'node:path';

/**
 * The only file that knows koffi. The native module is loaded by itself, without koffi's JavaScript: that
 * looks for it beside `node_modules`, and in the guest there is only the bundle and one `.node` file.
 */
interface Native {
  load(library: string): { func(name: string, result: string, parameters: string[]): NativeFunction };
  errno(): number;
  address(memory: Uint8Array): bigint;
  readonly node: {
    poll(fd: number, options: { readable?: true; writable?: true }, callback: () => void): PollHandle;
  };
}

type NativeFunction = ((...args: unknown[]) => number | bigint) & {
  /** Runs on libuv's pool; errno() is valid in the callback only. */
  async(...args: unknown[]): void;
};

export interface PollHandle {
  close(): void;
}

/** Where the guest image has the native module. */
const GUEST_NATIVE = '/usr/local/lib/fusegate/koffi.node';

let loaded: { native: Native; libc: ReturnType<Native['load']> } | undefined;

function ffi(): NonNullable<typeof loaded> {
  if (loaded === undefined) {
    const native = createRequire(nativeDirectory())(nativePath()) as Native;
    loaded = { native, libc: native.load('libc.so.6') };
  }
  return loaded;
}

/** Loads what the first call would have to wait for: a process kept in reserve has the time. */
export function warmUp(): void {
  ffi();
}

function nativePath(): string {
  const chosen = process.env['KOFFI'] ?? GUEST_NATIVE;
  if (existsSync(chosen)) return chosen;
  return `@koromix/koffi-linux-${process.arch}/linux_${process.arch}/koffi.node`;
}

/** For a run outside the guest: the checkout the process was started in has node_modules. */
function nativeDirectory(): string {
  return join(process.env['FUSEGATE_MODULES'] ?? process.cwd(), 'package.json');
}

/** A number, a pointer to the bytes, or NULL. */
export type NativeArgument = number | bigint | Uint8Array | null;
/** -1 with the errno that libc set, or the value. */
export interface NativeResult {
  readonly value: number;
  readonly errno: number;
}

const functions = new Map<string, NativeFunction>();

function libcFunction(name: string, arity: number): NativeFunction {
  const key = `${name}/${arity}`;
  let found = functions.get(key);
  if (found === undefined) {
    found = ffi().libc.func(name, resultType(name), Array<string>(arity).fill('int64'));
    functions.set(key, found);
  }
  return found;
}

/** Most of libc returns an int, whose upper half in the register means nothing. */
function resultType(name: string): string {
  return name === 'syscall' || name === 'memcpy' ? 'int64' : 'int';
}

/** Calls a function of libc that takes and returns machine words, on this thread. */
export function callSync(name: string, args: readonly NativeArgument[]): NativeResult {
  const call = libcFunction(name, args.length);
  const words = args.map(toWord);
  const value = signed(call(...words));
  // Nothing may run between the call and this: errno belongs to whatever was called last.
  return { value, errno: value === -1 ? ffi().native.errno() : 0 };
}

/** The same on a thread of libuv's pool, so that a call that blocks blocks nothing else. */
export function callAsync(name: string, args: readonly NativeArgument[]): Promise<NativeResult> {
  const call = libcFunction(name, args.length);
  const { promise, resolve, reject } = Promise.withResolvers<NativeResult>();
  call.async(...args.map(toWord), (error: unknown, raw: number | bigint) => {
    const value = signed(raw);
    const errno = value === -1 ? ffi().native.errno() : 0;
    pinned.delete(args);
    if (error instanceof Error) reject(error);
    else resolve({ value, errno });
  });
  // The callee has bare addresses: the bytes must stay reachable until it is done.
  pinned.add(args);
  return promise;
}

/**
 * read(2) into the same bytes again and again. Node's own makes an exception of nothing to read, and one takes longer
 * than all the rest. `bytes` is not on the heap: `Buffer.allocUnsafeSlow`.
 * @returns how many bytes, or the errno below 0.
 */
export function readerInto(bytes: Uint8Array): (fd: number) => number {
  const read = libcFunction('read', 3);
  // Addresses of a process have 47 bits.
  const address = Number(addressOf(bytes));
  const { length } = bytes;
  const { native } = ffi();
  return (fd) => {
    const value = signed(read(fd, address, length));
    return value === -1 ? -native.errno() : value;
  };
}

const pinned = new Set<readonly NativeArgument[]>();

function toWord(argument: NativeArgument): number | bigint {
  if (argument === null) return 0;
  return argument instanceof Uint8Array ? addressOf(argument) : argument;
}

function signed(raw: number | bigint): number {
  return Number(raw);
}

export function addressOf(bytes: Uint8Array): bigint {
  return ffi().native.address(bytes);
}

/** Calls back whenever the descriptor has something to read or has failed; makes it non-blocking. */
export function pollReadable(fd: number, callback: () => void): PollHandle {
  return ffi().native.node.poll(fd, { readable: true }, callback);
}

/** The same for a descriptor that can be written again. */
export function pollWritable(fd: number, callback: () => void): PollHandle {
  return ffi().native.node.poll(fd, { writable: true }, callback);
}
