import {
  accessSync,
  closeSync,
  constants,
  fstatSync,
  linkSync,
  lstatSync,
  mkdirSync,
  openSync,
  readlinkSync,
  renameSync,
  rmdirSync,
  statSync,
  symlinkSync,
  unlinkSync,
  type BigIntStats,
} from 'node:fs';
import { dirname } from 'node:path';
import type { OpenPatch } from '../../protocol/requests.ts';
import type { ServeOptions } from '../../protocol/server-calls.ts';
import { numberField, type Request } from '../fuse/request.ts';
import { joinBytes, struct } from '../fuse/reply.ts';
import { flagBits } from '../sys/constants.ts';
import { cString } from '../sys/memory.ts';
import { SystemError, syscallSync, valueOf } from '../sys/syscall.ts';
import { attrBody, entryBody, keyOf, type Validity } from './attributes.ts';
import { applyAttributes } from './set-attributes.ts';
import { HandleTable, type Handle } from './handles.ts';
import { InodeTable, type Inode } from './inode-table.ts';
import type { PassthroughStrategy } from './passthrough.ts';

/** Flags of an open that are the kernel's business, or would change what the server's own descriptor does. */
const NOT_FOR_THE_SERVER =
  constants.O_CREAT |
  constants.O_EXCL |
  constants.O_NOCTTY |
  constants.O_APPEND |
  constants.O_DIRECT |
  constants.O_NOFOLLOW;

const SET_GROUP_ID = 0o2000;
const SET_IDS = 0o6000;

export interface OpenContext {
  /** Members of the answer that the test has set: then nothing is done by itself. */
  readonly patch: OpenPatch | undefined;
}

/** A real directory, served. Methods give the body of the answer and throw what the system said. */
export class FileSystem {
  readonly inodes: InodeTable;
  readonly handles = new HandleTable();
  options: ServeOptions;
  /** Undefined until the kernel and the server have agreed on passthrough. */
  strategy: PassthroughStrategy | undefined;

  constructor(options: ServeOptions) {
    this.options = options;
    this.inodes = new InodeTable(options.root, keyOf(lstatSync(options.root, { bigint: true })));
  }

  get validity(): Validity {
    return { attrValidS: this.options.attrValidS ?? 0, entryValidS: this.options.entryValidS ?? 0 };
  }

  // --- names -------------------------------------------------------------------------------------------

  childName(request: Request, nodeid = request.nodeid, name = request.name): string {
    const parent = this.inodes.nameOf(nodeid);
    if (parent === undefined) throw new SystemError('path', 'ESTALE');
    // Asked of what the kernel has a handle of, and no name (EXPORT_SUPPORT).
    if (name === '.') return parent;
    if (name === '..') return dirname(parent);
    return parent === '/' ? `/${name}` : `${parent}/${name}`;
  }

  absolute(nodeid: number): string {
    const name = this.inodes.nameOf(nodeid);
    if (name === undefined) throw new SystemError('path', 'ESTALE');
    return this.inodes.absolute(name);
  }

  /** Path by which calls that take one reach the node, also when it has been unlinked while open. */
  reach(nodeid: number): string {
    const fd = this.inodes.nameOf(nodeid) === undefined ? this.handles.anyFd(nodeid) : undefined;
    return fd === undefined ? this.absolute(nodeid) : `/proc/self/fd/${fd}`;
  }

  private entry(name: string): Uint8Array {
    return this.entryOf(name).body;
  }

  entryOf(name: string): { inode: Inode; body: Uint8Array } {
    const stat = lstatSync(this.inodes.absolute(name), { bigint: true });
    const inode = this.inodes.remember(keyOf(stat), name);
    return { inode, body: entryBody(inode.nodeid, stat, this.validity) };
  }

  lookup(request: Request): Uint8Array {
    const name = this.childName(request);
    try {
      return this.entry(name);
    } catch (error) {
      this.inodes.removeName(name);
      throw error;
    }
  }

  forget(nodeid: number, count: number): void {
    this.inodes.forget(nodeid, count);
  }

  // --- attributes --------------------------------------------------------------------------------------

  stat(nodeid: number, fh?: number): BigIntStats {
    const fd = (fh === undefined ? undefined : this.handles.get(fh)?.fd) ?? this.handles.anyFd(nodeid);
    if (this.inodes.nameOf(nodeid) === undefined && fd !== undefined) return fstatSync(fd, { bigint: true });
    return lstatSync(this.absolute(nodeid), { bigint: true });
  }

  getattr(request: Request): Uint8Array {
    return attrBody(this.stat(request.nodeid, numberField(request, 'fh')), this.validity);
  }

  setattr(request: Request): Uint8Array {
    applyAttributes(this.reach(request.nodeid), request);
    return attrBody(this.stat(request.nodeid, numberField(request, 'fh')), this.validity);
  }

  access(request: Request): Uint8Array {
    accessSync(this.absolute(request.nodeid), numberField(request, 'mask'));
    return NOTHING;
  }

  readlink(request: Request): Uint8Array {
    return Buffer.from(readlinkSync(this.absolute(request.nodeid)), 'utf8');
  }

  // --- making and removing -----------------------------------------------------------------------------

  private made(request: Request, name: string, mode = 0): Uint8Array {
    this.giveTo(request, name, mode);
    return this.entry(name);
  }

  /**
   * What a client makes belongs to the client, though the server makes it; its group is that of a directory with
   * the set-group-ID bit (inode(7)). `mode`: of what is not a directory.
   */
  private giveTo(request: Request, name: string, mode: number): void {
    const path = cString(this.inodes.absolute(name));
    const inherits = (statSync(dirname(this.inodes.absolute(name))).mode & SET_GROUP_ID) !== 0;
    const gid = inherits ? -1 : request.gid;
    const flags = flagBits('AT_SYMLINK_NOFOLLOW');
    valueOf('chown', syscallSync('fchownat', -100, path, request.uid, gid, flags));
    // The change of owner has taken them away (chown(2)).
    if (mode & SET_IDS) valueOf('chmod', syscallSync('fchmodat', -100, path, mode & 0o7777));
  }

  mkdir(request: Request): Uint8Array {
    const name = this.childName(request);
    mkdirSync(this.inodes.absolute(name), { mode: numberField(request, 'mode') });
    return this.made(request, name);
  }

  mknod(request: Request): Uint8Array {
    const name = this.childName(request);
    const path = cString(this.inodes.absolute(name));
    const mode = numberField(request, 'mode');
    valueOf('mknod', syscallSync('mknodat', -100, path, mode, numberField(request, 'rdev')));
    return this.made(request, name, mode);
  }

  symlink(request: Request): Uint8Array {
    const name = this.childName(request);
    symlinkSync(request.secondName, this.inodes.absolute(name));
    return this.made(request, name);
  }

  link(request: Request): Uint8Array {
    const name = this.childName(request);
    const from = numberField(request, 'oldnodeid');
    const fd = this.inodes.nameOf(from) === undefined ? this.handles.anyFd(from) : undefined;
    if (fd === undefined) linkSync(this.absolute(from), this.inodes.absolute(name));
    else {
      const [source, target] = [`/proc/self/fd/${fd}`, this.inodes.absolute(name)];
      const flags = flagBits('AT_SYMLINK_FOLLOW');
      valueOf('link', syscallSync('linkat', -100, cString(source), -100, cString(target), flags));
    }
    return this.entry(name);
  }

  unlink(request: Request): Uint8Array {
    const name = this.childName(request);
    unlinkSync(this.inodes.absolute(name));
    this.inodes.removeName(name);
    return NOTHING;
  }

  rmdir(request: Request): Uint8Array {
    const name = this.childName(request);
    rmdirSync(this.inodes.absolute(name));
    this.inodes.removeName(name);
    return NOTHING;
  }

  rename(request: Request): Uint8Array {
    const from = this.childName(request);
    const to = this.childName(request, numberField(request, 'newdir'), request.secondName);
    const flags = numberField(request, 'flags');
    const paths = [cString(this.inodes.absolute(from)), cString(this.inodes.absolute(to))] as const;
    if (flags === 0) renameSync(this.inodes.absolute(from), this.inodes.absolute(to));
    else valueOf('rename', syscallSync('renameat2', -100, paths[0], -100, paths[1], flags));
    if (flags & flagBits('RENAME_EXCHANGE')) this.inodes.exchange(from, to);
    else this.inodes.rename(from, to);
    return NOTHING;
  }

  // --- opening -----------------------------------------------------------------------------------------

  async open(request: Request, context: OpenContext): Promise<Uint8Array> {
    const { nodeid } = request;
    const flags = numberField(request, 'flags');
    const fd = openSync(this.reach(nodeid), flags & ~NOT_FOR_THE_SERVER);
    return this.answerOpen(this.handles.add(nodeid, flags, fd), context);
  }

  opendir(request: Request, context: OpenContext): Uint8Array {
    const fd = openSync(this.absolute(request.nodeid), constants.O_RDONLY | constants.O_DIRECTORY);
    const handle = this.handles.add(request.nodeid, numberField(request, 'flags'), fd);
    return openBody(handle, 0, context.patch);
  }

  async create(request: Request, context: OpenContext): Promise<Uint8Array> {
    const name = this.childName(request);
    const flags = numberField(request, 'flags');
    const how = (flags & ~NOT_FOR_THE_SERVER) | constants.O_CREAT | (flags & constants.O_EXCL);
    const mode = numberField(request, 'mode') & 0o7777;
    const fd = openSync(this.inodes.absolute(name), how, mode);
    this.giveTo(request, name, mode);
    const { inode, body } = this.entryOf(name);
    return joinBytes(body, await this.answerOpen(this.handles.add(inode.nodeid, flags, fd), context));
  }

  async tmpfile(request: Request, context: OpenContext): Promise<Uint8Array> {
    const flags = numberField(request, 'flags');
    const how = (flags & ~NOT_FOR_THE_SERVER) | flagBits('O_TMPFILE');
    const fd = openSync(this.absolute(request.nodeid), how, numberField(request, 'mode') & 0o7777);
    const stat = fstatSync(fd, { bigint: true });
    const inode = this.inodes.remember(keyOf(stat), null);
    const body = entryBody(inode.nodeid, stat, this.validity);
    return joinBytes(body, await this.answerOpen(this.handles.add(inode.nodeid, flags, fd), context));
  }

  private async answerOpen(handle: Handle, context: OpenContext): Promise<Uint8Array> {
    const automatic = context.patch === undefined && this.options.passthrough === 'auto';
    if (!automatic || this.strategy === undefined) return openBody(handle, 0, context.patch);
    const result = await this.strategy.grant(handle.nodeid, this.backingPath(handle));
    if ('errno' in result) {
      this.close(handle.fh);
      throw new SystemError('register', result.errno);
    }
    handle.backingId = result.value.backingId;
    return openBody(handle, result.value.openFlags | (this.options.openFlags ?? 0), undefined);
  }

  private backingPath(handle: Handle): string {
    const name = this.inodes.nameOf(handle.nodeid);
    if (name === undefined) return `/proc/self/fd/${handle.fd ?? -1}`;
    return `${this.options.backingRoot ?? this.options.root}${name}`;
  }

  async release(request: Request): Promise<Uint8Array> {
    const handle = this.close(numberField(request, 'fh'));
    if (handle !== undefined && handle.backingId !== 0) await this.strategy?.release(handle.nodeid);
    return NOTHING;
  }

  close(fh: number): Handle | undefined {
    const handle = this.handles.remove(fh);
    if (handle?.fd !== undefined) closeSync(handle.fd);
    return handle;
  }

  handleOf(request: Request, field = 'fh'): Handle & { readonly fd: number } {
    const handle = this.handles.get(numberField(request, field));
    if (handle?.fd === undefined) throw new SystemError('handle', 'EBADF');
    return handle as Handle & { readonly fd: number };
  }
}

export const NOTHING = new Uint8Array();

function openBody(handle: Handle, openFlags: number, patch: OpenPatch | undefined): Uint8Array {
  return struct('open', {
    fh: patch?.fh ?? handle.fh,
    open_flags: patch?.openFlags ?? openFlags,
    backing_id: patch?.backingId ?? handle.backingId,
  });
}
