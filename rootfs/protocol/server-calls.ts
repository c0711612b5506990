import type { InitFlagName } from './fuse.ts';
import type {
  LogQuery,
  LogState,
  Notification,
  OpenPatch,
  RequestRecord,
  Rule,
  RuleAction,
} from './requests.ts';
import type { CallResult } from './syscalls.ts';

/** Where the descriptor comes from that is registered as a backing file. */
export type FdSource =
  | { readonly path: string; readonly flags: string; readonly mode?: number | undefined }
  /** A number as it is: -1, or one that nobody has. */
  | { readonly fd: number }
  /** Taken over from another process of the guest (pidfd_getfd). */
  | { readonly pid: number; readonly fd: number }
  | { readonly special: 'pipe' | 'socket' | 'eventfd' | 'memfd' };

/** `fuse_init_out` member by member. What is absent has the value of an ordinary server. */
export interface InitReply {
  /** Every flag that is answered, also those that the kernel did not offer. */
  readonly flags?: readonly InitFlagName[] | undefined;
  readonly addFlags?: readonly InitFlagName[] | undefined;
  readonly dropFlags?: readonly InitFlagName[] | undefined;
  readonly major?: number | undefined;
  readonly minor?: number | undefined;
  readonly maxStackDepth?: number | undefined;
  readonly maxWrite?: number | undefined;
  readonly maxReadahead?: number | undefined;
  readonly maxPages?: number | undefined;
  readonly maxBackground?: number | undefined;
  readonly congestionThreshold?: number | undefined;
  readonly timeGran?: number | undefined;
}

/**
 * `auto`: every OPEN and CREATE of a regular file is answered in passthrough mode, one registration per inode
 * while it is open. `off`: only what rules say.
 */
export type PassthroughPolicy = 'off' | 'auto';

/** How files are registered: ids by ioctl (6.9 and later) or single-use ids in the open answer (the 2021 series). */
export type PassthroughAbi = 'backing-id' | 'fd';

export interface ServeOptions {
  /** Directory that is served. */
  readonly root: string;
  /** Directory with the same tree whose files are registered as backing files. Default: `root`. */
  readonly backingRoot?: string | undefined;
  readonly passthrough?: PassthroughPolicy | undefined;
  readonly abi?: PassthroughAbi | undefined;
  readonly init?: InitReply | undefined;
  /** Added to every automatic passthrough answer (OpenFlag bits). */
  readonly openFlags?: number | undefined;
  /** How long the kernel may believe attributes and names. Seconds, default 0. */
  readonly attrValidS?: number | undefined;
  readonly entryValidS?: number | undefined;
}

export interface MountOptions {
  readonly mountPoint: string;
  readonly serve: ServeOptions;
  readonly rules?: readonly Rule[] | undefined;
  readonly allowOther?: boolean | undefined;
  readonly defaultPermissions?: boolean | undefined;
  readonly maxRead?: number | undefined;
  /** Further mount flags by name: `MS_RDONLY`, `MS_NOEXEC` … */
  readonly flags?: string | undefined;
  readonly subtype?: string | undefined;
  /** false: do not wait for INIT to be answered. */
  readonly waitForInit?: boolean | undefined;
}

export interface InitRecord {
  readonly major: number;
  readonly minor: number;
  readonly flagsOffered: readonly InitFlagName[];
  readonly flagsAnswered: readonly InitFlagName[];
  readonly maxStackDepth: number;
  /** The feature is on as far as the answer decides it. */
  readonly passthrough: boolean;
}

export type IoctlArgument = Uint8Array | 'null' | 'bad-pointer';

/** Requests to a FUSE server process. Devices are numbered per server; 0 is the mounted one. */
export interface ServerCalls {
  'server.info': { params: Record<string, never>; result: { pid: number; deviceFd: number | null } };
  'server.mount': { params: MountOptions; result: { connection: number; init: InitRecord | null } };
  'server.configure': { params: { serve: Partial<ServeOptions> }; result: null };
  'device.open': { params: Record<string, never>; result: { device: number; fd: number } };
  /** A further descriptor of the same connection, read by the server like the first. */
  'device.clone': { params: { device?: number }; result: CallResult<{ device: number; fd: number }> };
  'device.close': { params: { device: number }; result: CallResult<number> };
  'device.ioctl': {
    params: { device?: number; request: number; arg: IoctlArgument; fdFrom?: FdSource };
    result: CallResult<{ ret: number; arg: Uint8Array | null }>;
  };
  'device.write': { params: { device?: number; bytes: Uint8Array }; result: CallResult<number> };
  'backing.open': {
    params: { device?: number; from: FdSource; flags?: number; padding?: number };
    result: CallResult<number>;
  };
  'backing.close': { params: { device?: number; id: number }; result: CallResult<number> };
  'rules.add': { params: { rule: Rule }; result: { rule: number } };
  'rules.remove': { params: { rule: number }; result: null };
  'held.release': {
    params: { seq: number; action?: RuleAction; open?: OpenPatch };
    result: null;
  };
  'log.get': { params: { query?: LogQuery }; result: { records: RequestRecord[]; lastSeq: number } };
  'log.wait': { params: { query: LogQuery; state?: LogState }; result: RequestRecord };
  notify: { params: { device?: number; notification: Notification }; result: CallResult<number> };
  'server.state': { params: Record<string, never>; result: ServerState };
}

export interface ServerState {
  readonly inodes: readonly { nodeid: number; path: string; lookups: number }[];
  readonly handles: readonly { fh: number; nodeid: number; backingId: number }[];
  readonly backingIds: readonly number[];
  readonly held: readonly number[];
  /** Why the server stopped reading: `ENODEV` after an unmount, null while it serves. */
  readonly ended: string | null;
}
