/**
 * The rules of fs/fuse/iomode.c, and of fuse_file_mmap() in file.c as far as they concern I/O modes, written
 * anew as a pure machine for one inode: what each open and mapping is answered. Names are the kernel's.
 */
export type ModeStep =
  | 'open-cached'
  | 'open-direct'
  | 'open-passthrough-1'
  | 'open-passthrough-2'
  | 'close-oldest'
  /** Shared, of the oldest file that is open for direct I/O; unmapped again at once. */
  | 'map-direct';

export const MODE_STEPS: readonly ModeStep[] = [
  'open-cached',
  'open-direct',
  'open-passthrough-1',
  'open-passthrough-2',
  'close-oldest',
  'map-direct',
];

export interface OpenFile {
  readonly kind: 'cached' | 'direct' | 'passthrough';
  /** `ff->iomode`: what it adds to the inode's counter until it is closed. */
  readonly counts: -1 | 0 | 1;
}

export interface InodeModes {
  /** Oldest first. */
  readonly files: readonly OpenFile[];
  /** The registration that the inode is bound to, 0 for none. */
  readonly backing: 0 | 1 | 2;
}

export const CLOSED: InodeModes = { files: [], backing: 0 };

export interface Answer {
  readonly errno: string;
  readonly after: InodeModes;
}

/** @returns null for a step that means nothing here: there is no such file to close or to map. */
export function step(before: InodeModes, what: ModeStep): Answer | null {
  switch (what) {
    case 'open-cached':
      return before.backing === 0 ? opened(before, { kind: 'cached', counts: 1 }) : refused(before, 'EIO');
    case 'open-direct':
      return before.backing === 0 ? opened(before, { kind: 'direct', counts: 0 }) : refused(before, 'EIO');
    case 'open-passthrough-1':
      return openPassthrough(before, 1);
    case 'open-passthrough-2':
      return openPassthrough(before, 2);
    case 'close-oldest':
      return before.files.length === 0 ? null : closeOldest(before);
    case 'map-direct':
      return mapDirect(before);
  }
}

/** `fi->iocachectr`: above zero the page cache is in use, below zero it must not be. */
export function counter({ files }: InodeModes): number {
  return files.reduce((sum, { counts }) => sum + counts, 0);
}

function openPassthrough(before: InodeModes, id: 1 | 2): Answer {
  if (before.backing !== 0 && before.backing !== id) return refused(before, 'EIO');
  if (counter(before) > 0) return refused(before, 'EIO');
  return opened({ ...before, backing: id }, { kind: 'passthrough', counts: -1 });
}

function closeOldest({ files, backing }: InodeModes): Answer {
  const left = files.slice(1);
  const bound = left.some(({ kind }) => kind === 'passthrough');
  return { errno: 'ok', after: { files: left, backing: bound ? backing : 0 } };
}

function mapDirect(before: InodeModes): Answer | null {
  const at = before.files.findIndex(({ kind }) => kind === 'direct');
  if (at < 0) return null;
  if (before.backing !== 0) return refused(before, 'ENODEV');
  return { errno: 'ok', after: { ...before, files: before.files.with(at, { kind: 'direct', counts: 1 }) } };
}

function opened(before: InodeModes, file: OpenFile): Answer {
  return { errno: 'ok', after: { ...before, files: [...before.files, file] } };
}

function refused(before: InodeModes, errno: string): Answer {
  return { errno, after: before };
}

/**
 * Every sequence of `length` steps that means something, as its steps. The first registration to be named is
 * always the first: they are alike until then. No sequence ends with a close, which shows nothing by itself.
 */
export function sequences(length: number): ModeStep[][] {
  const found: ModeStep[][] = [];
  const extend = (steps: ModeStep[], state: InodeModes): void => {
    if (steps.length === length) {
      if (steps.at(-1) !== 'close-oldest') found.push(steps);
      return;
    }
    for (const next of MODE_STEPS) {
      if (next === 'open-passthrough-2' && !steps.includes('open-passthrough-1')) continue;
      const answer = step(state, next);
      if (answer !== null) extend([...steps, next], answer.after);
    }
  };
  extend([], CLOSED);
  return found;
}
