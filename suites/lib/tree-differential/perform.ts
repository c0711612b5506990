import type { BatchCall, BatchReference, CallResult, Stat, TreeEntry } from '#rootfs/protocol/syscalls.ts';
import { bytes } from '../bytes.ts';
import type { Client } from '../client.ts';
import type { Observation } from '../differential/compare.ts';
import type { TreeOperation, TreeOperationName } from './operation.ts';
import { tellTree } from './tell-tree.ts';

/** Where a sequence is done. */
export interface TreePlace {
  readonly name: string;
  /** An empty directory, once `start` is done. */
  readonly top: string;
  readonly start: readonly BatchCall[];
  /** How the tree is mounted anew, for the nth time from 1. */
  readonly again: (nth: number) => readonly BatchCall[];
  readonly end: readonly BatchCall[];
}

/** Bytes; longer than a held file gets. */
const ALL = 60_000;

type Told = (value: unknown) => string;
const done: Told = () => 'ok';
const asIs: Told = (value) => JSON.stringify(value);
const asTree: Told = (value) => tellTree(value as readonly TreeEntry[]);
const asStat: Told = (value) => {
  const { mode, size, nlink } = value as Stat;
  const isDirectory = (mode & 0o170_000) === 0o040_000;
  return `mode ${mode.toString(8)}${isDirectory ? '' : ` size ${size} links ${nlink}`}`;
};

type Descriptor = { readonly ref: BatchReference };

/** Puts the calls of a sequence together. */
class Recorder {
  readonly calls: BatchCall[] = [];
  /** `told`: none for what prepares the place, which has to work. */
  readonly notes: { readonly step: number; readonly told: Told | undefined }[] = [];
  readonly #place: TreePlace;
  readonly #lookEvery: number;
  held: Descriptor | undefined;
  directory: Descriptor | undefined;
  #again = 0;
  #step = -1;

  constructor(place: TreePlace, lookEvery: number) {
    this.#place = place;
    this.#lookEvery = lookEvery;
    this.prepare(place.start);
  }

  add(call: BatchCall['call'], args: BatchCall['args'], told = done): Descriptor {
    this.notes.push({ step: this.#step, told });
    return { ref: { of: this.calls.push({ call, args }) - 1 } };
  }

  prepare(calls: readonly BatchCall[]): void {
    for (const call of calls) {
      this.notes.push({ step: this.#step, told: undefined });
      this.calls.push(call);
    }
  }

  step(operation: TreeOperation): void {
    this.#step += 1;
    (RECORDED[operation.do] as (operation: TreeOperation, recorder: Recorder) => void)(operation, this);
    if ((this.#step + 1) % this.#lookEvery === 0) this.look();
  }

  look(): void {
    this.add('tree', { path: this.#place.top }, asTree);
  }

  again(): void {
    this.look();
    this.#close();
    this.prepare(this.#place.again(++this.#again));
    this.look();
  }

  end(): void {
    this.look();
    this.#close();
    this.prepare(this.#place.end);
  }

  #close(): void {
    for (const fd of [this.held, this.directory]) if (fd !== undefined) this.add('close', { fd });
    this.held = undefined;
    this.directory = undefined;
  }

  at(path: string): string {
    return `${this.#place.top}/${path}`;
  }

  write({ path, length, seed }: Written, flags: string, mode?: number): void {
    const data = { make: { length, seed } };
    this.add('writeFile', { path: this.at(path), data, flags, ...(mode === undefined ? {} : { mode }) });
  }
}

interface Written {
  readonly path: string;
  readonly length: number;
  readonly seed: number;
}

type Named<K, O = TreeOperation> = O extends { readonly do: infer D } ? (K extends D ? O : never) : never;

const RECORDED: { readonly [K in TreeOperationName]: (operation: Named<K>, recorder: Recorder) => void } = {
  mkdir: ({ path, mode }, to) => void to.add('mkdir', { path: to.at(path), mode }),
  create: (operation, to) => to.write(operation, 'O_WRONLY|O_CREAT|O_EXCL', operation.mode),
  // A pipe without a reader is ENXIO then, and not a wait.
  overwrite: (operation, to) => to.write(operation, 'O_WRONLY|O_TRUNC|O_NONBLOCK'),
  append: (operation, to) => to.write(operation, 'O_WRONLY|O_APPEND|O_NONBLOCK'),
  truncate: ({ path, size }, to) => void to.add('truncate', { path: to.at(path), length: size }),
  unlink: ({ path }, to) => void to.add('unlink', { path: to.at(path) }),
  rmdir: ({ path }, to) => void to.add('rmdir', { path: to.at(path) }),
  look: ({ path }, to) => void to.add('lstat', { path: to.at(path) }, asStat),
  list: ({ path }, to) => void to.add('readdir', { path: to.at(path) }, asIs),
  rename: ({ from, to: target, flags }, to) => {
    to.add('rename', { from: to.at(from), to: to.at(target), flags });
  },
  link: ({ from, to: target }, to) => void to.add('link', { from: to.at(from), to: to.at(target) }),
  symlink: ({ path, target }, to) => void to.add('symlink', { path: to.at(path), target }),
  mkfifo: ({ path, mode }, to) => void to.add('mknod', { path: to.at(path), mode: 0o010_000 | mode }),
  chmod: ({ path, mode }, to) => void to.add('chmod', { path: to.at(path), mode }),
  chown: ({ path, uid, gid }, to) => void to.add('chown', { path: to.at(path), uid, gid }),
  utimens: ({ path, mtimeNs }, to) => void to.add('utimens', { path: to.at(path), atimeNs: null, mtimeNs }),
  setxattr: ({ path, name, value }, to) => {
    to.add('setxattr', { path: to.at(path), name, data: bytes(value) });
  },
  removexattr: ({ path, name }, to) => void to.add('removexattr', { path: to.at(path), name }),
  hold: ({ path }, to) => {
    if (to.held !== undefined) to.add('close', { fd: to.held });
    to.held = to.add('open', { path: to.at(path), flags: 'O_RDWR|O_NONBLOCK' });
  },
  'held-write': ({ offset, length, seed }, to) => {
    const { held: fd } = to;
    if (fd !== undefined) to.add('pwrite', { fd, offset, data: { make: { length, seed } } }, asIs);
  },
  'held-look': (_operation, to) => {
    if (to.held === undefined) return;
    to.add('fstat', { fd: to.held }, asStat);
    to.add('pread', { fd: to.held, offset: 0, count: ALL }, asIs);
  },
  opendir: ({ path }, to) => {
    if (to.directory !== undefined) to.add('close', { fd: to.directory });
    to.directory = to.add('open', { path: to.at(path), flags: 'O_RDONLY|O_DIRECTORY' });
  },
  reread: (_operation, to) => {
    if (to.directory !== undefined) to.add('readdirFd', { fd: to.directory }, asIs);
  },
  again: (_operation, to) => to.again(),
};

export interface TreeSequence {
  readonly operations: readonly TreeOperation[];
  /** After how many operations the tree is looked at; it is at the end as well, and before and after it is mounted anew. */
  readonly lookEvery: number;
}

/** Does a sequence from an empty directory on, all by one thread and in one request. */
export async function perform(
  client: Client,
  place: TreePlace,
  { operations, lookEvery }: TreeSequence,
): Promise<Observation[]> {
  const recorder = new Recorder(place, lookEvery);
  for (const operation of operations) recorder.step(operation);
  recorder.end();
  const results = await client.batch({ calls: recorder.calls, digests: true, oneThread: true });
  return results.flatMap((result, index) => {
    const { call = '', args = {} } = recorder.calls[index] ?? {};
    const { step = 0, told } = recorder.notes[index] ?? {};
    if (told !== undefined) return [{ step, call, outcome: outcomeOf(result, told) }];
    if ('errno' in result) throw new Error(`${place.name}: ${call} ${JSON.stringify(args)}: ${result.errno}`);
    return [];
  });
}

function outcomeOf(result: CallResult<unknown>, told: Told): string {
  return 'errno' in result ? result.errno : told(result.value);
}
