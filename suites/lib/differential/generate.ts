import { admissible, MAX_SIZE, PAGE } from './file-model.ts';
import { HANDLES, SPACE_MODES, type Handle, type Operation } from './operation.ts';

/** Uniform numbers that are the same for the same seed, everywhere (mulberry32). */
class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  /** 0 … limit - 1 */
  below(limit: number): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), this.#state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) % limit;
  }

  pick<T>(from: readonly T[]): T {
    const picked = from[this.below(from.length)];
    if (picked === undefined) throw new RangeError('there is nothing to pick from');
    return picked;
  }

  chance(of: number): boolean {
    return this.below(of) === 0;
  }

  /** Around page boundaries, where things go wrong, and anywhere else; often aligned, as O_DIRECT wants it. */
  offset(limit = MAX_SIZE / 2): number {
    const page = PAGE * this.below(limit / PAGE);
    switch (this.below(4)) {
      case 0:
        return this.below(limit);
      case 1:
        return Math.max(0, page - 1 + this.below(3));
      default:
        return page;
    }
  }

  length(): number {
    switch (this.below(8)) {
      case 0:
        return 0;
      case 1:
        return 1;
      case 2:
      case 3:
        return 1 + this.below(3 * PAGE);
      case 4:
        return PAGE * (1 + this.below(3)) + this.pick([-1, 1]);
      default:
        return PAGE * (1 + this.below(3));
    }
  }
}

/** How often each kind comes, relative to the others. */
const WEIGHTS: Readonly<Record<Operation['do'], number>> = {
  pread: 4,
  pwrite: 6,
  'pwrite-append': 2,
  read: 3,
  write: 4,
  readv: 2,
  writev: 3,
  lseek: 3,
  ftruncate: 3,
  'map-read': 5,
  'map-write': 6,
  remap: 1,
  'splice-out': 3,
  'splice-in': 4,
  copy: 3,
  fallocate: 3,
  setfl: 3,
  reopen: 3,
};

const KINDS = Object.entries(WEIGHTS).flatMap(([name, weight]) => {
  return Array<Operation['do']>(weight).fill(name as Operation['do']);
});

function draw(random: Random): Operation {
  const on: Handle = random.pick(HANDLES);
  const offset = random.offset();
  const length = random.length();
  const seed = 1 + random.below(0x7fff_ffff);
  const kind = random.pick(KINDS);
  switch (kind) {
    case 'pread':
    case 'splice-out':
      return { do: kind, on, offset, length };
    case 'pwrite':
    case 'pwrite-append':
    case 'splice-in':
      return { do: kind, on, offset, length, seed };
    case 'read':
      return { do: kind, on, length };
    case 'write':
      return { do: kind, on, length, seed };
    case 'readv':
      return { do: kind, on, lengths: [length, random.length()] };
    case 'writev':
      return { do: kind, on, lengths: [length, random.length()], seed };
    case 'lseek': {
      const whence = random.pick(['SEEK_SET', 'SEEK_CUR', 'SEEK_END'] as const);
      return { do: kind, on, offset: whence === 'SEEK_SET' ? offset : -length, whence };
    }
    case 'ftruncate':
      return { do: kind, on, size: offset };
    case 'map-read':
      return { do: kind, offset, length };
    case 'map-write':
      return { do: kind, offset, length, seed };
    case 'remap':
      return { do: kind };
    case 'copy':
      return { do: kind, from: on, to: random.pick(HANDLES), offIn: offset, offOut: random.offset(), length };
    case 'fallocate':
      return { do: kind, on, mode: random.pick(SPACE_MODES), offset, length: length + 1 };
    case 'setfl':
    case 'reopen': {
      const append = random.chance(3);
      return { do: kind, on, append, direct: !append && random.chance(2) };
    }
  }
}

export interface SequenceRequest {
  readonly seed: number;
  readonly count: number;
  /** Whether mappings take part. */
  readonly maps: boolean;
}

/** A sequence of `count` operations that may be done one after the other on a new, empty file. */
export function generate({ seed, count, maps }: SequenceRequest): Operation[] {
  const random = new Random(seed);
  let operations: Operation[] = [];
  while (operations.length < count) {
    const drawn = Array.from({ length: count - operations.length }, () => draw(random));
    operations = admissible([...operations, ...drawn.filter((each) => maps || !isMapping(each))]);
  }
  return operations;
}

function isMapping(operation: Operation): boolean {
  return operation.do === 'map-read' || operation.do === 'map-write' || operation.do === 'remap';
}
