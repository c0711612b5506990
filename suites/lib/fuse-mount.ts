import type { OpcodeName } from '#rootfs/protocol/fuse.ts';
import type {
  LogQuery,
  LogState,
  Notification,
  OpenPatch,
  RequestMatch,
  RequestRecord,
  Rule,
  RuleAction,
} from '#rootfs/protocol/requests.ts';
import type { InitRecord, MountOptions, ServeOptions, ServerState } from '#rootfs/protocol/server-calls.ts';
import { eventually } from './eventually.ts';
import { FuseServer } from './fuse-server.ts';
import type { Lease } from './lease.ts';

export interface FuseOptions extends Omit<ServeOptions, 'root'>, Omit<MountOptions, 'serve' | 'mountPoint'> {
  /** Directory to serve; or on which backing filesystem to make a fresh one. Default `ext4`. */
  readonly root?: string | undefined;
  readonly mountPoint?: string | undefined;
  /** A server that has not mounted yet. Default: a new one. */
  readonly server?: FuseServer | undefined;
}

type Match = OpcodeName | RequestMatch;

/** Requests that match, held back as they come. */
export interface Hold {
  /** The next one that has arrived and waits; each is given once. */
  arrived(): Promise<RequestRecord>;
  /** Lets one go on: by itself, or with another action. */
  release(request: RequestRecord, action?: RuleAction): Promise<void>;
  /** No further request is held. Those that are stay so. */
  stop(): Promise<void>;
}

/** A mounted FUSE filesystem and the server behind it. Disposing unmounts it and ends the server. */
export class FuseMount implements AsyncDisposable {
  /** Mount point. */
  readonly path: string;
  /** Directory that is served. */
  readonly root: string;
  readonly server: FuseServer;
  readonly connection: number;
  /** What was negotiated; null with `waitForInit: false`. */
  readonly init: InitRecord | null;
  readonly #lease: Lease;
  #mounted = true;

  private constructor(
    lease: Lease,
    server: FuseServer,
    made: Pick<FuseMount, 'path' | 'root' | 'connection' | 'init'>,
  ) {
    this.#lease = lease;
    this.server = server;
    this.path = made.path;
    this.root = made.root;
    this.connection = made.connection;
    this.init = made.init;
  }

  static async make(lease: Lease, options: FuseOptions): Promise<FuseMount> {
    const root = await rootOf(lease, options.root ?? 'ext4');
    const path = options.mountPoint ?? (await lease.call('dir.make', { in: 'area', name: 'fuse' })).path;
    const server = options.server ?? (await FuseServer.start(lease, {}));
    const { passthrough, abi, init, openFlags, attrValidS, entryValidS, backingRoot, ...mount } = options;
    const serve = {
      root,
      passthrough: passthrough ?? 'auto',
      abi,
      init,
      openFlags,
      attrValidS,
      entryValidS,
      backingRoot,
    };
    const { rules, allowOther, defaultPermissions, maxRead, flags, subtype, waitForInit } = mount;
    const how = { rules, allowOther, defaultPermissions, maxRead, flags, subtype, waitForInit };
    const made = await server.mount({ mountPoint: path, serve, ...how });
    return new FuseMount(lease, server, { path, root, ...made });
  }

  /** Path of a file as a client reaches it through FUSE. */
  file(name: string): string {
    return `${this.path}/${name}`;
  }

  /** Path of the same file where the server has it. */
  backing(name: string): string {
    return `${this.root}/${name}`;
  }

  // --- what the server saw ----------------------------------------------------------------------------

  async requests(match: Match | LogQuery = {}): Promise<RequestRecord[]> {
    return (await this.server.call('log.get', { query: queryOf(match) })).records;
  }

  /** READ and WRITE requests: none, if all I/O went past the server. */
  dataRequests(): Promise<RequestRecord[]> {
    return this.requests({ opcode: ['READ', 'WRITE'] });
  }

  async opcodes(match: Match | LogQuery = {}): Promise<string[]> {
    return (await this.requests(match)).map(({ opcode }) => opcode);
  }

  /** Position in the log: what comes later has a higher `seq` (`{ after }`). */
  async position(): Promise<number> {
    return (await this.server.call('log.get', { query: { opcode: 'DESTROY' } })).lastSeq;
  }

  /** The first request of that kind in the log, or the next to come. RELEASE, for one, comes after close. */
  waitFor(match: Match | LogQuery, state: LogState = 'answered'): Promise<RequestRecord> {
    return this.server.call('log.wait', { query: queryOf(match), state });
  }

  state(): Promise<ServerState> {
    return this.server.call('server.state', {});
  }

  /** The number of a file that the server knows, by its path below the root: `/f`. */
  async nodeid(path: string): Promise<number> {
    const found = (await this.state()).inodes.find((inode) => inode.path === path);
    if (found === undefined) throw new Error(`the server does not know ${path}`);
    return found.nodeid;
  }

  // --- what the server does ---------------------------------------------------------------------------

  /** @returns how to take the rule back. A later rule covers an earlier one. */
  async rule(rule: Rule): Promise<() => Promise<void>> {
    const added = await this.server.call('rules.add', { rule });
    return async () => {
      await this.server.call('rules.remove', added);
    };
  }

  /** Answers with an error instead. */
  fail(match: Match, errno: string, times?: number): Promise<() => Promise<void>> {
    return this.rule({ match: queryOf(match), times, action: { do: 'error', errno } });
  }

  /** Replaces members of the answer to opens; nothing is registered by itself then. */
  answerOpen(match: Match, open: OpenPatch, times?: number): Promise<() => Promise<void>> {
    return this.rule({ match: queryOf(match), times, action: { do: 'open', open } });
  }

  async hold(match: Match): Promise<Hold> {
    const query = queryOf(match);
    let after = await this.position();
    const stop = await this.rule({ match: query, action: { do: 'hold' } });
    return {
      stop,
      arrived: async () => {
        const record = await this.waitFor({ ...query, after }, 'held');
        after = record.seq;
        return record;
      },
      release: async ({ seq }, action) => {
        await this.server.call('held.release', action === undefined ? { seq } : { seq, action });
      },
    };
  }

  async configure(serve: Partial<ServeOptions>): Promise<void> {
    await this.server.call('server.configure', { serve });
  }

  /** @returns `ok` or the errno of the write. */
  async notify(notification: Notification): Promise<string> {
    const result = await this.server.call('notify', { notification });
    return 'errno' in result ? result.errno : 'ok';
  }

  // --- its end ----------------------------------------------------------------------------------------

  /** @returns `ok` or the errno; flags as for umount2: `MNT_DETACH`. */
  async unmount(flags = ''): Promise<string> {
    const result = await this.#lease.call('mounts.umount', { mountPoint: this.path, flags });
    if ('errno' in result) return result.errno;
    this.#mounted = false;
    return 'ok';
  }

  /** Through fusectl. */
  async abort(): Promise<void> {
    await this.#lease.call('connection.abort', { connection: this.connection });
  }

  /** Requests without an answer, as the kernel counts them; null when the connection is gone. */
  async waiting(): Promise<number | null> {
    return (await this.#lease.call('connection.waiting', { connection: this.connection })).waiting;
  }

  /** Waits until just so many requests are without an answer. @returns how many there are then, or at last. */
  async untilWaiting(requests: number): Promise<number | null> {
    return eventually(
      () => this.waiting(),
      (waiting) => waiting === requests,
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // Busy or not: a client that the test has forgotten is found by what is left afterwards.
    if (this.#mounted) await this.unmount('MNT_DETACH');
    await this.server[Symbol.asyncDispose]();
  }
}

function queryOf(match: Match | LogQuery): LogQuery {
  return typeof match === 'string' ? { opcode: match } : match;
}

async function rootOf(lease: Lease, root: string): Promise<string> {
  if (root !== 'ext4' && root !== 'tmpfs') return root;
  return (await lease.call('dir.make', { in: root, name: 'root' })).path;
}
