import type { OpcodeName } from '../../protocol/fuse.ts';
import { struct } from '../fuse/reply.ts';
import { numberField, type Request } from '../fuse/request.ts';
import { SystemError } from '../sys/syscall.ts';
import * as data from './file-data.ts';
import { NOTHING, type FileSystem, type OpenContext } from './file-system.ts';
import type { LockTable } from './locks.ts';

export interface HandlerContext extends OpenContext {
  readonly fs: FileSystem;
  readonly locks: LockTable;
}

export type Handler = (request: Request, context: HandlerContext) => Uint8Array | Promise<Uint8Array>;

const notImplemented: Handler = () => {
  throw new SystemError('handler', 'ENOSYS');
};

/**
 * What an ordinary server does with each opcode. ENOSYS is an answer the kernel remembers and lives with:
 * it then does without the request. INIT is the session's business.
 */
export const handlers: Readonly<Record<Exclude<OpcodeName, 'INIT'>, Handler>> = {
  LOOKUP: (request, { fs }) => fs.lookup(request),
  FORGET: (request, { fs }) => {
    fs.forget(request.nodeid, numberField(request, 'nlookup'));
    return NOTHING;
  },
  BATCH_FORGET: (request, { fs }) => {
    for (const { nodeid, nlookup } of request.forgets) fs.forget(nodeid, nlookup);
    return NOTHING;
  },
  GETATTR: (request, { fs }) => fs.getattr(request),
  SETATTR: (request, { fs }) => fs.setattr(request),
  READLINK: (request, { fs }) => fs.readlink(request),
  SYMLINK: (request, { fs }) => fs.symlink(request),
  MKNOD: (request, { fs }) => fs.mknod(request),
  MKDIR: (request, { fs }) => fs.mkdir(request),
  UNLINK: (request, { fs }) => fs.unlink(request),
  RMDIR: (request, { fs }) => fs.rmdir(request),
  RENAME: (request, { fs }) => fs.rename(request),
  RENAME2: (request, { fs }) => fs.rename(request),
  LINK: (request, { fs }) => fs.link(request),
  OPEN: (request, context) => context.fs.open(request, context),
  CREATE: (request, context) => context.fs.create(request, context),
  TMPFILE: (request, context) => context.fs.tmpfile(request, context),
  OPENDIR: (request, context) => context.fs.opendir(request, context),
  READ: (request, { fs }) => data.read(fs, request),
  WRITE: (request, { fs }) => data.write(fs, request),
  STATFS: (_request, { fs }) => data.statfs(fs),
  RELEASE: (request, { fs, locks }) => {
    locks.dropOwner(request.nodeid, String(request.fields['lock_owner']));
    return fs.release(request);
  },
  RELEASEDIR: (request, { fs }) => fs.release(request),
  FSYNC: (request, { fs }) => data.fsync(fs, request),
  FSYNCDIR: (request, { fs }) => data.fsync(fs, request),
  SETXATTR: (request, { fs }) => data.setxattr(fs, request),
  GETXATTR: (request, { fs }) => data.getxattr(fs, request),
  LISTXATTR: (request, { fs }) => data.listxattr(fs, request),
  REMOVEXATTR: (request, { fs }) => data.removexattr(fs, request),
  FLUSH: (request, { locks }) => {
    locks.dropOwner(request.nodeid, String(request.fields['lock_owner']));
    return NOTHING;
  },
  READDIR: (request, { fs }) => data.readdir(fs, request, false),
  READDIRPLUS: (request, { fs }) => data.readdir(fs, request, true),
  GETLK: (request, { locks }) => locks.getlk(request),
  SETLK: (request, { locks }) => locks.setlk(request),
  SETLKW: (request, { locks }) => locks.setlkw(request),
  ACCESS: (request, { fs }) => fs.access(request),
  INTERRUPT: (request, { locks }) => {
    locks.interrupt(numberField(request, 'unique'));
    return NOTHING;
  },
  BMAP: notImplemented,
  DESTROY: () => NOTHING,
  IOCTL: notImplemented,
  POLL: notImplemented,
  NOTIFY_REPLY: () => NOTHING,
  FALLOCATE: (request, { fs }) => data.fallocate(fs, request),
  LSEEK: (request, { fs }) => data.lseek(fs, request),
  COPY_FILE_RANGE: (request, { fs }) => struct('write', { size: data.copyFileRange(fs, request) }),
  COPY_FILE_RANGE_64: (request, { fs }) => {
    return struct('copied', { bytes_copied: data.copyFileRange(fs, request) });
  },
  SYNCFS: () => NOTHING,
  STATX: notImplemented,
};
