import type { ExitRecord } from '#rootfs/protocol/calls.ts';
import type { FdSource, IoctlArgument, MountOptions, ServerCalls } from '#rootfs/protocol/server-calls.ts';
import type { CallResult } from '#rootfs/protocol/syscalls.ts';
import type { Client } from './client.ts';
import type { Lease } from './lease.ts';

export interface ServerOptions {
  readonly launcher?: readonly string[] | undefined;
}

/** A FUSE server process in the guest: its devices and registrations. Disposing ends all of it. */
export class FuseServer implements AsyncDisposable {
  readonly pid: number;
  readonly #lease: Lease;
  readonly #id: number;

  private constructor(lease: Lease, id: number, pid: number) {
    this.#lease = lease;
    this.#id = id;
    this.pid = pid;
  }

  static async start(lease: Lease, { launcher }: ServerOptions): Promise<FuseServer> {
    const { server, pid } = await lease.call('server.start', launcher === undefined ? {} : { launcher });
    return new FuseServer(lease, server, pid);
  }

  /** One request to the server. @throws RpcRefusal, with code `deadline` when it does not answer in time. */
  async call<M extends keyof ServerCalls>(
    method: M,
    params: ServerCalls[M]['params'],
    timeoutMs = 10_000,
  ): Promise<ServerCalls[M]['result']> {
    const result = await this.#lease.call('server.call', {
      server: this.#id,
      method,
      timeoutMs: this.#lease.scaled(timeoutMs),
      // Last: the agent passes them on as they are.
      params,
    });
    return result as ServerCalls[M]['result'];
  }

  /** A fresh /dev/fuse descriptor that belongs to no mount. */
  openDevice(): Promise<{ device: number; fd: number }> {
    return this.call('device.open', {});
  }

  /** A second descriptor of the same connection (FUSE_DEV_IOC_CLONE). */
  async cloneDevice(device = 0): Promise<{ device: number; fd: number }> {
    const result = await this.call('device.clone', { device });
    if ('errno' in result) throw new Error(`FUSE_DEV_IOC_CLONE: ${result.errno}`);
    return result.value;
  }

  /** The mounted device in another process as well. @returns its number there. @throws SyscallError */
  async lendDevice(client: Client): Promise<number> {
    const { deviceFd } = await this.call('server.info', {});
    return client.adoptFd({ pid: this.pid, fd: deviceFd ?? -1 });
  }

  async closeDevice(device: number): Promise<void> {
    await this.call('device.close', { device });
  }

  /** An ioctl on a device as it stands. `fdFrom`: that descriptor is opened and put at offset 0 of the argument. */
  ioctl(
    request: number,
    arg: IoctlArgument,
    options: { readonly device?: number; readonly fdFrom?: FdSource } = {},
  ): Promise<CallResult<{ ret: number; arg: Uint8Array | null }>> {
    return this.call('device.ioctl', { request, arg, ...options });
  }

  /** The errno of an ioctl, or `ok`. */
  async ioctlErrno(
    request: number,
    arg: IoctlArgument,
    options: { readonly device?: number; readonly fdFrom?: FdSource } = {},
  ): Promise<string> {
    const result = await this.ioctl(request, arg, options);
    return 'errno' in result ? result.errno : 'ok';
  }

  /** FUSE_DEV_IOC_BACKING_OPEN. @returns the id, or throws. */
  async registerBacking(from: FdSource, options: BackingOptions = {}): Promise<number> {
    const result = await this.call('backing.open', { from, ...options });
    if ('errno' in result) throw new Error(`BACKING_OPEN of ${JSON.stringify(from)}: ${result.errno}`);
    return result.value;
  }

  /** The errno of BACKING_OPEN, or `ok`; an id that was given is closed again. */
  async registerErrno(from: FdSource, options: BackingOptions = {}): Promise<string> {
    const result = await this.call('backing.open', { from, ...options });
    if ('errno' in result) return result.errno;
    await this.closeBacking(result.value, options.device);
    return 'ok';
  }

  /** FUSE_DEV_IOC_BACKING_CLOSE. @returns `ok` or the errno. */
  async closeBacking(id: number, device?: number): Promise<string> {
    const result = await this.call('backing.close', device === undefined ? { id } : { id, device });
    return 'errno' in result ? result.errno : 'ok';
  }

  /** Writes bytes to the device as if they were an answer. @returns `ok` or the errno. */
  async writeDevice(data: Uint8Array, device = 0): Promise<string> {
    const result = await this.call('device.write', { device, bytes: data });
    return 'errno' in result ? result.errno : 'ok';
  }

  mount(options: MountOptions): Promise<ServerCalls['server.mount']['result']> {
    return this.call('server.mount', options);
  }

  /** SIGKILL by default. SIGSTOP and SIGCONT stop it and let it go on. */
  kill(signal?: NodeJS.Signals): Promise<ExitRecord | null> {
    return this.#lease.call('server.kill', { server: this.#id, signal });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#lease.call('server.dispose', { server: this.#id });
  }
}

export interface BackingOptions {
  readonly device?: number;
  /** `fuse_backing_map.flags` and `.padding`, which have to be 0. */
  readonly flags?: number;
  readonly padding?: number;
}
