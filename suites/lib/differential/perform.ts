import type { BatchCall, BatchReference, CallResult, Stat } from '#rootfs/protocol/syscalls.ts';
import type { Client } from '../client.ts';
import type { Observation } from './compare.ts';
import { MAX_SIZE } from './file-model.ts';
import { HANDLES, type Handle, type HandleFlags, type Operation } from './operation.ts';

/** Where a sequence is done, and what is different there. */
export interface Place {
  /** What `a` and `b` open. */
  readonly path: string;
  /** What `behind` opens. */
  readonly behind: string;
  /** false: O_DIRECT is left away, and the rest of the flags stays. */
  readonly direct: boolean;
}

/** Contents, size and positions are looked at after every so many operations, and at the end. */
const CHECK_EVERY = 6;

type Told = (value: unknown) => string;
const asIs: Told = (value) => JSON.stringify(value);
/** Numbers of descriptors and mappings mean nothing. */
const done: Told = () => 'ok';
const sizeOnly: Told = (value) => `size ${(value as Stat).size}`;

/** Puts the calls of a sequence together. */
class Recorder {
  readonly calls: BatchCall[] = [];
  readonly told: { readonly step: number; readonly told: Told }[] = [];
  readonly #place: Place;
  readonly #fds = {} as Record<Handle, { ref: BatchReference }>;
  readonly #pipe: readonly [unknown, unknown];
  #map: { ref: BatchReference } | undefined;
  #step = -1;

  constructor(place: Place, maps: boolean) {
    this.#place = place;
    const pipe = this.add('pipe', { flags: 'O_NONBLOCK' }, done);
    this.#pipe = [{ ref: { of: pipe, part: 0 } }, { ref: { of: pipe, part: 1 } }];
    for (const handle of HANDLES) this.#open(handle, { append: false, direct: false });
    if (maps) this.#mmap();
  }

  add(call: BatchCall['call'], args: BatchCall['args'], told: Told = asIs): number {
    this.told.push({ step: this.#step, told });
    return this.calls.push({ call, args }) - 1;
  }

  step(operation: Operation): void {
    this.#step += 1;
    this.#perform(operation);
    const behind = ('on' in operation && operation.on === 'behind') || operation.do === 'copy';
    // What was done behind its back FUSE can only know by asking.
    if (behind) this.add('fstat', { fd: this.#fds.a }, sizeOnly);
    if ((this.#step + 1) % CHECK_EVERY === 0) this.check();
  }

  check(): void {
    for (const handle of HANDLES) {
      this.add('pread', { fd: this.#fds[handle], offset: 0, count: MAX_SIZE });
      this.add('lseek', { fd: this.#fds[handle], offset: 0, whence: 'SEEK_CUR' });
    }
    this.add('fstat', { fd: this.#fds.a }, sizeOnly);
    this.add('stat', { path: this.#place.behind }, sizeOnly);
  }

  end(): void {
    this.check();
    if (this.#map !== undefined) this.add('munmap', { map: this.#map });
    for (const handle of HANDLES) this.add('close', { fd: this.#fds[handle] });
    for (const fd of this.#pipe) this.add('close', { fd });
    this.add('readFile', { path: this.#place.path });
    this.add('readFile', { path: this.#place.behind });
  }

  #open(handle: Handle, flags: HandleFlags): void {
    const path = handle === 'behind' ? this.#place.behind : this.#place.path;
    this.#fds[handle] = { ref: { of: this.add('open', { path, flags: this.#flags(flags) }, done) } };
  }

  #flags({ append, direct }: HandleFlags): string {
    const names = [append ? 'O_APPEND' : '', direct && this.#place.direct ? 'O_DIRECT' : ''];
    return ['O_RDWR', ...names].filter(Boolean).join('|');
  }

  /** Of the whole length that the file may get: what is beyond its end is just not touched. */
  #mmap(): void {
    const how = { length: MAX_SIZE, prot: 'PROT_READ|PROT_WRITE', flags: 'MAP_SHARED' };
    this.#map = { ref: { of: this.add('mmap', { fd: this.#fds.a, ...how }, done) } };
  }

  #perform(operation: Operation): void {
    switch (operation.do) {
      case 'map-read': {
        const { offset, length } = operation;
        this.add('mread', { map: this.#map, offset, length });
        return;
      }
      case 'map-write': {
        const { offset, length, seed } = operation;
        this.add('mwrite', { map: this.#map, offset, data: { make: { length, seed } } });
        return;
      }
      case 'remap':
        this.add('munmap', { map: this.#map });
        this.#mmap();
        return;
      case 'copy': {
        const { from, to, offIn, offOut, length } = operation;
        const fds = { fdIn: this.#fds[from], fdOut: this.#fds[to] };
        this.add('copy_file_range', { ...fds, offIn, offOut, length });
        return;
      }
      case 'reopen':
        this.add('close', { fd: this.#fds[operation.on] });
        this.#open(operation.on, operation);
        return;
      default:
        this.#onDescriptor(operation, this.#fds[operation.on]);
    }
  }

  #onDescriptor(
    operation: Exclude<Operation, { do: 'map-read' | 'map-write' | 'remap' | 'copy' | 'reopen' }>,
    fd: unknown,
  ): void {
    switch (operation.do) {
      case 'pread':
        this.add('pread', { fd, offset: operation.offset, count: operation.length });
        return;
      case 'pwrite':
        this.add('pwrite', { fd, offset: operation.offset, data: { make: operation } });
        return;
      case 'pwrite-append': {
        const { offset } = operation;
        this.add('pwritev2', { fd, offset, chunks: [{ make: operation }], flags: 'RWF_APPEND' });
        return;
      }
      case 'read':
        this.add('read', { fd, count: operation.length });
        return;
      case 'write':
        this.add('write', { fd, data: { make: operation } });
        return;
      case 'readv':
        this.add('readv', { fd, counts: operation.lengths });
        return;
      case 'writev': {
        const { lengths, seed } = operation;
        const chunks = lengths.map((length, index) => ({ make: { length, seed: seed + index } }));
        this.add('writev', { fd, chunks });
        return;
      }
      case 'lseek':
        this.add('lseek', { fd, offset: operation.offset, whence: operation.whence });
        return;
      case 'ftruncate':
        this.add('ftruncate', { fd, length: operation.size });
        return;
      case 'fallocate': {
        const { mode, offset, length } = operation;
        this.add('fallocate', { fd, mode, offset, length });
        return;
      }
      case 'setfl':
        this.add('fcntl', { fd, cmd: 'F_SETFL', arg: this.#flags(operation).replace('O_RDWR|', '') });
        return;
      case 'splice-out': {
        const { offset, length } = operation;
        this.add('splice', { fdIn: fd, offIn: offset, fdOut: this.#pipe[1], length });
        this.add('read', { fd: this.#pipe[0], count: length });
        return;
      }
      case 'splice-in': {
        const { offset, length } = operation;
        this.add('write', { fd: this.#pipe[1], data: { make: operation } });
        this.add('splice', { fdIn: this.#pipe[0], fdOut: fd, offOut: offset, length });
      }
    }
  }
}

export interface Sequence {
  readonly operations: readonly Operation[];
  readonly maps: boolean;
}

/** Does a sequence on a new, empty file, all by one thread and in one request. */
export async function perform(client: Client, place: Place, sequence: Sequence): Promise<Observation[]> {
  await client.writeFile({ path: place.behind, data: '' });
  const recorder = new Recorder(place, sequence.maps);
  for (const operation of sequence.operations) recorder.step(operation);
  recorder.end();
  const results = await client.batch({ calls: recorder.calls, digests: true, oneThread: true });
  return results.map((result, index) => {
    const { step = 0, told = asIs } = recorder.told[index] ?? {};
    return { step, call: recorder.calls[index]?.call ?? '', outcome: outcomeOf(result, told) };
  });
}

function outcomeOf(result: CallResult<unknown>, told: Told): string {
  return 'errno' in result ? result.errno : told(result.value);
}
