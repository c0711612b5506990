import type { NotifyName, OpcodeName } from './fuse.ts';

/**
 * One request that the FUSE server received. Numbers are doubles: offsets above 2^53 are rounded.
 * `path` is relative to the served directory and begins with `/`; null when the node is unknown.
 */
export interface RequestRecord {
  readonly seq: number;
  readonly opcode: OpcodeName | `OPCODE_${number}`;
  readonly unique: number;
  readonly nodeid: number;
  readonly path: string | null;
  readonly uid: number;
  readonly gid: number;
  readonly pid: number;
  /**
   * The fixed part of the request by the kernel's field names, and `name`, `newName`, `target`, `groups` where there are
   * any; `sha1` of what a NOTIFY_REPLY or an IOCTL brings.
   */
  readonly args: Readonly<Record<string, number | string | readonly string[]>>;
  /** Milliseconds since the server started. */
  readonly arrivedMs: number;
  readonly held: boolean;
  readonly reply: ReplyRecord | null;
}

export interface ReplyRecord {
  /** Errno name, or null for success. */
  readonly error: string | null;
  /** Length of the whole answer, header included. */
  readonly bytes: number;
  /** What write(2) on the device said when it refused the answer. */
  readonly refused: string | null;
  readonly atMs: number;
  /** Open answers only. */
  readonly open?: { readonly fh: number; readonly openFlags: number; readonly backingId: number };
}

/** Which requests a rule applies to: every member that is there must agree. */
export interface RequestMatch {
  readonly opcode?: OpcodeName | readonly OpcodeName[] | undefined;
  /** Exactly this path (of the node; for requests with a name, of the named child). */
  readonly path?: string | undefined;
  readonly nodeid?: number | undefined;
  readonly pid?: number | undefined;
}

/** Replaces members of the answer to OPEN, CREATE, TMPFILE and OPENDIR. */
export interface OpenPatch {
  readonly fh?: number | undefined;
  readonly openFlags?: number | undefined;
  readonly backingId?: number | undefined;
}

export type RuleAction =
  | { readonly do: 'error'; readonly errno: string }
  /** Kept back until `held.release`. */
  | { readonly do: 'hold' }
  | { readonly do: 'delay'; readonly ms: number }
  /** Success with this body, whatever the file system would say. */
  | { readonly do: 'body'; readonly body: Uint8Array }
  /** These bytes as they are, header included; `unique` is put at offset 8 unless told otherwise. */
  | { readonly do: 'raw'; readonly bytes: Uint8Array; readonly keepUnique?: boolean | undefined }
  | { readonly do: 'open'; readonly open: OpenPatch }
  /** The file system's own answer with bytes of its body replaced. */
  | { readonly do: 'patch'; readonly at: number; readonly bytes: Uint8Array }
  /** The file system does its work, but this error is answered. */
  | { readonly do: 'work-then-error'; readonly errno: string }
  /** Just the file system: ends the search, so that a later rule does not apply. */
  | { readonly do: 'normal' };

export interface Rule {
  readonly match: RequestMatch;
  /** Applies from the nth matching request on, counted from 1. Default 1. */
  readonly nth?: number | undefined;
  /** Applies to so many requests, then never again. Default: all. */
  readonly times?: number | undefined;
  readonly action: RuleAction;
}

export interface LogQuery extends RequestMatch {
  /** Only records with a higher `seq`. */
  readonly after?: number | undefined;
}

/** Default `arrived`. */
export type LogState = 'arrived' | 'answered' | 'held';

export type Notification =
  | { readonly code: NotifyName; readonly body: Uint8Array }
  | { readonly inode: string; readonly offset: number; readonly length: number }
  | { readonly parent: string; readonly name: string; readonly deletedChild?: string | undefined }
  | { readonly store: string; readonly offset: number; readonly data: Uint8Array };
