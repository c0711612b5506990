import { mkdirSync } from 'node:fs';
import type { CommonCalls } from '../../protocol/calls.ts';
import { backingMap, NotifyCode } from '../../protocol/fuse.ts';
import type { Notification } from '../../protocol/requests.ts';
import type { MountOptions, ServerCalls } from '../../protocol/server-calls.ts';
import type { CallResult } from '../../protocol/syscalls.ts';
import { joinBytes, notification, struct } from '../fuse/reply.ts';
import { RpcRefusal } from '../../protocol/peer.ts';
import { serveStdio } from '../rpc/server.ts';
import { Descriptors } from '../sys/descriptors.ts';
import { FuseDevice } from '../sys/device.ts';
import { warmUp } from '../sys/ffi.ts';
import { connectionOf, mountFuse, shareDirtyPages } from '../sys/mount.ts';
import { FileSystem } from './file-system.ts';
import { closeBacking, passthroughStrategy, registerFd } from './passthrough.ts';
import { Session } from './session.ts';
import { takeFd } from './fd-source.ts';

type Handlers = {
  readonly [M in keyof ServerCalls]: (
    params: ServerCalls[M]['params'],
  ) => ServerCalls[M]['result'] | Promise<ServerCalls[M]['result']>;
};

/** The FUSE server process: one mount at a time, any number of /dev/fuse descriptors, told what to do over stdin. */
export function runServer(): void {
  warmUp();
  const server = new Server();
  const renew = async (): Promise<CommonCalls['renew']['result']> => ({ clean: await server.renew() });
  serveStdio({ ...server.handlers, renew, up: () => null }, () => process.exit(0));
}

class Server {
  readonly #devices = new Map<number, FuseDevice>();
  #nextDevice = 0;
  #session: Session | undefined;
  readonly #descriptors = new Descriptors();

  readonly handlers: Handlers = {
    'server.info': () => ({ pid: process.pid, deviceFd: this.#devices.get(0)?.fd ?? null }),
    'server.mount': (options) => this.#mount(options),
    'server.configure': ({ serve }) => {
      const { fs } = this.#served();
      fs.options = { ...fs.options, ...serve };
      return null;
    },
    'device.open': () => this.#openDevice(),
    'device.clone': ({ device }) => this.#clone(device),
    'device.close': ({ device }) => {
      this.#device(device).close();
      this.#devices.delete(device);
      return { value: 0 };
    },
    'device.ioctl': async ({ device, request, arg, fdFrom }) => {
      if (fdFrom === undefined || !(arg instanceof Uint8Array))
        return this.#device(device).ioctl(request, arg);
      return this.#withFd(fdFrom, (fd) => {
        const bytes = Uint8Array.from(arg);
        new DataView(bytes.buffer).setInt32(0, fd, true);
        return this.#device(device).ioctl(request, bytes);
      });
    },
    'device.write': ({ device, bytes }) => written(this.#device(device).write(bytes), bytes.length),
    'backing.open': ({ device, from, flags, padding }) =>
      this.#withFd(from, (fd) => {
        return registerFd(this.#device(device), backingMap(fd, flags, BigInt(padding ?? 0)));
      }),
    'backing.close': ({ device, id }) => closeBacking(this.#device(device), id),
    'rules.add': ({ rule }) => ({ rule: this.#served().rules.add(rule) }),
    'rules.remove': ({ rule }) => {
      this.#served().rules.remove(rule);
      return null;
    },
    'held.release': async ({ seq, action, open }) => {
      const how =
        action ?? (open === undefined ? ({ do: 'normal' } as const) : ({ do: 'open', open } as const));
      if (!(await this.#served().release(seq, how))) {
        throw new RpcRefusal('not-held', `request ${seq} is not held`);
      }
      return null;
    },
    'log.get': ({ query }) => {
      const log = this.#session?.log;
      return { records: log?.find(query ?? {}) ?? [], lastSeq: log?.lastSeq ?? 0 };
    },
    'log.wait': ({ query, state }) => this.#served().wait(query, state ?? 'arrived'),
    notify: ({ device, notification: what }) => {
      const bytes = this.#notificationBytes(what);
      return written(this.#device(device).write(bytes), bytes.length);
    },
    'server.state': () => this.#state(),
  };

  /** Forgets what it served; waits until the connection has ended. @returns whether all of it is gone. */
  async renew(): Promise<boolean> {
    if (this.#session !== undefined) await this.#session.over();
    for (const device of this.#devices.values()) device.close();
    this.#devices.clear();
    this.#nextDevice = 0;
    this.#session = undefined;
    return this.#descriptors.restore();
  }

  #served(): Session {
    if (this.#session === undefined)
      throw new RpcRefusal('not-mounted', 'this server has not mounted anything');
    return this.#session;
  }

  #device(number = 0): FuseDevice {
    const device = this.#devices.get(number);
    if (device === undefined) throw new RpcRefusal('no-such-device', `there is no device ${number}`);
    return device;
  }

  #openDevice(): { device: number; fd: number } {
    const device = new FuseDevice();
    const number = this.#nextDevice++;
    this.#devices.set(number, device);
    return { device: number, fd: device.fd };
  }

  #clone(from: number | undefined): CallResult<{ device: number; fd: number }> {
    const original = this.#device(from);
    const opened = this.#openDevice();
    const clone = this.#device(opened.device);
    const result = clone.cloneFrom(original);
    if ('errno' in result) return result;
    this.#session?.readFrom(clone);
    return { value: opened };
  }

  async #mount(options: MountOptions): Promise<ServerCalls['server.mount']['result']> {
    if (this.#session !== undefined) throw new RpcRefusal('mounted', 'this server has mounted already');
    const session = new Session(new FileSystem(options.serve));
    for (const rule of options.rules ?? []) session.rules.add(rule);
    const device = this.#devices.get(0) ?? this.#device(this.#openDevice().device);
    session.onNegotiated = (record) => {
      if (record.passthrough) {
        session.fs.strategy = passthroughStrategy(options.serve.abi ?? 'backing-id', device);
      }
    };
    mkdirSync(options.mountPoint, { recursive: true });
    mountFuse(device.fd, options);
    this.#session = session;
    const connection = connectionOf(options.mountPoint);
    shareDirtyPages(connection);
    session.readFrom(device);
    const init = options.waitForInit === false ? null : await session.initialized.promise;
    return { connection, init };
  }

  /** A descriptor from wherever, for one registration. Taken-over ones are closed on the pool: their flush may come to us. */
  async #withFd<T>(
    source: Parameters<typeof takeFd>[0],
    use: (fd: number) => Promise<CallResult<T>>,
  ): Promise<CallResult<T>> {
    await using fd = await takeFd(source);
    return await use(fd.number);
  }

  #nodeid(path: string): number {
    const inode = this.#served().fs.inodes.byName(path);
    if (inode === undefined) throw new RpcRefusal('no-such-node', `the kernel has not looked up ${path}`);
    return inode.nodeid;
  }

  #notificationBytes(what: Notification): Uint8Array {
    if ('code' in what) return notification(NotifyCode[what.code], what.body);
    if ('inode' in what) {
      const body = { ino: this.#nodeid(what.inode), off: what.offset, len: what.length };
      return notification(NotifyCode.INVAL_INODE, struct('notifyInode', body));
    }
    if ('store' in what) {
      const body = { nodeid: this.#nodeid(what.store), offset: what.offset, size: what.data.length };
      return notification(NotifyCode.STORE, joinBytes(struct('notifyStore', body), what.data));
    }
    const parent = this.#nodeid(what.parent);
    const name = Buffer.from(`${what.name}\0`, 'utf8');
    const namelen = name.length - 1;
    if (what.deletedChild === undefined) {
      const head = struct('notifyEntry', { parent, namelen });
      return notification(NotifyCode.INVAL_ENTRY, joinBytes(head, name));
    }
    const head = struct('notifyDelete', { parent, child: this.#nodeid(what.deletedChild), namelen });
    return notification(NotifyCode.DELETE, joinBytes(head, name));
  }

  #state(): ServerCalls['server.state']['result'] {
    const session = this.#session;
    const fs = session?.fs;
    return {
      inodes: (fs?.inodes.all() ?? []).map(({ nodeid, lookups, names }) => {
        return { nodeid, lookups, path: [...names][0] ?? '' };
      }),
      handles: (fs?.handles.all() ?? []).map(({ fh, nodeid, backingId }) => ({ fh, nodeid, backingId })),
      backingIds: fs?.strategy?.ids ?? [],
      held: [...(session?.held.keys() ?? [])],
      ended: session?.ended ?? null,
    };
  }
}

function written(errno: string | undefined, bytes: number): CallResult<number> {
  return errno === undefined ? { value: bytes } : { errno };
}
