import { type Handle, type HandleFlags, type Operation } from './operation.ts';

export const PAGE = 4096;
/** No sequence makes the file longer: whole contents are read again and again. Bytes. */
export const MAX_SIZE = 32 * PAGE;

interface HandleState extends HandleFlags {
  readonly position: number;
  /** As it was opened: what F_SETFL cannot take back from a backing file. */
  readonly opened: HandleFlags;
}

/** What is known of a file without looking at it: enough to say which operation may come next. */
export interface FileModel {
  readonly size: number;
  readonly handles: Readonly<Record<Handle, HandleState>>;
}

const PLAIN: HandleFlags = { append: false, direct: false };

export function newFile(): FileModel {
  const handle = { ...PLAIN, position: 0, opened: PLAIN };
  return { size: 0, handles: { a: handle, b: handle, behind: handle } };
}

/**
 * Why an operation is left out here, or undefined. Two kinds of reasons: defects that are known and have tests
 * of their own (`known-failures.json`), and differences between filesystems that nobody promises away.
 */
export function leftOut(operation: Operation, model: FileModel): string | undefined {
  const { size } = model;
  switch (operation.do) {
    case 'map-read':
    case 'map-write':
      return operation.offset + operation.length > size ? 'a load beyond the end is SIGBUS (A17)' : undefined;
    case 'ftruncate':
    case 'remap':
    case 'lseek':
      return undefined;
    case 'fallocate':
      return undefined;
    case 'copy':
      return copyReason(operation, model);
    case 'setfl':
    case 'reopen':
      return flagChange(operation, model.handles[operation.on]);
    default:
      return dataMove(operation, model);
  }
}

function copyReason(
  { from, to, offOut, length }: Extract<Operation, { do: 'copy' }>,
  { handles }: FileModel,
): string | undefined {
  if ((from === 'behind') !== (to === 'behind')) return 'from one filesystem to another it is EXDEV';
  if (handles[from].direct || handles[to].direct) {
    return 'a server copies with descriptors of its own, which need no alignment';
  }
  return offOut + length > MAX_SIZE ? 'the file would become too long' : undefined;
}

function flagChange(
  { do: how, append, direct }: HandleFlags & { readonly do: 'setfl' | 'reopen' },
  { opened }: HandleState,
): string | undefined {
  if (append && direct) return 'where an append begins is seldom aligned';
  if (how === 'reopen') return undefined;
  if (opened.append && !append) return 'A8: the backing file keeps the O_APPEND of the open';
  if (opened.direct && !direct) return 'A9: the backing file keeps the O_DIRECT of the open';
  return undefined;
}

type DataMove = Extract<Operation, { on: Handle }> & {
  do:
    'pread' | 'pwrite' | 'pwrite-append' | 'read' | 'write' | 'readv' | 'writev' | 'splice-out' | 'splice-in';
};

function dataMove(operation: DataMove, { size, handles }: FileModel): string | undefined {
  const handle = handles[operation.on];
  const start = startOf(operation, handle);
  const lengths = 'lengths' in operation ? operation.lengths : [operation.length];
  if (handle.direct) {
    if (operation.do.startsWith('splice')) return 'splice on O_DIRECT goes another way in every filesystem';
    if (operation.do === 'pwrite-append') return 'where an append begins is seldom aligned';
    if ([start, ...lengths].some((each) => each % PAGE !== 0)) return 'O_DIRECT wants alignment (A11)';
  }
  if (operation.do === 'splice-in' && handle.append)
    return 'splice refuses O_APPEND, and the pipe stays full';
  const begins = appends(operation, handle) ? size : start;
  const writes = 'seed' in operation;
  return writes && begins + sum(lengths) > MAX_SIZE ? 'the file would become too long' : undefined;
}

function startOf(operation: DataMove, handle: HandleState): number {
  return 'offset' in operation ? operation.offset : handle.position;
}

function appends(operation: Operation, handle: HandleState): boolean {
  return operation.do === 'pwrite-append' || handle.append;
}

const sum = (lengths: readonly number[]): number => lengths.reduce((total, each) => total + each, 0);

/** The file after an operation that was not left out. */
export function after(model: FileModel, operation: Operation): FileModel {
  const { size, handles } = model;
  switch (operation.do) {
    case 'ftruncate':
      return { ...model, size: operation.size };
    case 'fallocate':
      if (operation.mode !== '') return model;
      return { ...model, size: Math.max(size, operation.offset + operation.length) };
    case 'copy': {
      // EBADF on O_APPEND, EINVAL when the ranges of one file overlap.
      const length = Math.max(0, Math.min(operation.length, size - operation.offIn));
      const overlaps = Math.abs(operation.offIn - operation.offOut) < length;
      if (handles[operation.to].append || overlaps || length === 0) return model;
      return { ...model, size: Math.max(size, operation.offOut + length) };
    }
    case 'map-read':
    case 'map-write':
    case 'remap':
      return model;
    case 'setfl':
      return withHandle(model, operation.on, { append: operation.append, direct: operation.direct });
    case 'reopen': {
      const { append, direct } = operation;
      return withHandle(model, operation.on, { append, direct, position: 0, opened: { append, direct } });
    }
    case 'lseek':
      return seek(model, operation);
    default:
      return moved(model, operation);
  }
}

function seek(model: FileModel, { on, whence, offset }: Extract<Operation, { do: 'lseek' }>): FileModel {
  const from = { SEEK_SET: 0, SEEK_CUR: model.handles[on].position, SEEK_END: model.size }[whence];
  return from + offset < 0 ? model : withHandle(model, on, { position: from + offset });
}

function moved(model: FileModel, operation: DataMove): FileModel {
  const handle = model.handles[operation.on];
  const positioned = 'offset' in operation;
  const length = 'lengths' in operation ? sum(operation.lengths) : operation.length;
  if (!('seed' in operation)) {
    if (positioned) return model;
    const position = Math.max(handle.position, Math.min(handle.position + length, model.size));
    return withHandle(model, operation.on, { position });
  }
  if (length === 0) return model;
  const end = (appends(operation, handle) ? model.size : startOf(operation, handle)) + length;
  const grown = { ...model, size: Math.max(model.size, end) };
  return positioned ? grown : withHandle(grown, operation.on, { position: end });
}

function withHandle(model: FileModel, on: Handle, change: Partial<HandleState>): FileModel {
  return { ...model, handles: { ...model.handles, [on]: { ...model.handles[on], ...change } } };
}

/** The sequence without what is left out where it stands: removing a step may change what later ones meet. */
export function admissible(operations: readonly Operation[]): Operation[] {
  let model = newFile();
  return operations.filter((operation) => {
    if (leftOut(operation, model) !== undefined) return false;
    model = after(model, operation);
    return true;
  });
}

export function modelAfter(operations: readonly Operation[]): FileModel {
  return operations.reduce(after, newFile());
}
