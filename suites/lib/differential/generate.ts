import { admissible, MAX_SIZE, PAGE } from './file-model.ts';
import { Random, weighted } from './random.ts';
import { HANDLES, SPACE_MODES, type Handle, type HandleFlags, type Operation } from './operation.ts';

/** Places and lengths in a file. */
class FileRandom extends Random {
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

const KINDS = weighted(WEIGHTS);

type Draw = (random: FileRandom, on: Handle) => Operation;

/** Where and how much. */
function range(random: FileRandom): { offset: number; length: number } {
  return { offset: random.offset(), length: random.length() };
}

function flags(random: FileRandom): HandleFlags {
  const append = random.chance(3);
  return { append, direct: !append && random.chance(2) };
}

const DRAWS: Readonly<Record<Operation['do'], Draw>> = {
  pread: (random, on) => ({ do: 'pread', on, ...range(random) }),
  pwrite: (random, on) => ({ do: 'pwrite', on, ...range(random), seed: random.seed() }),
  'pwrite-append': (random, on) => ({ do: 'pwrite-append', on, ...range(random), seed: random.seed() }),
  read: (random, on) => ({ do: 'read', on, length: random.length() }),
  write: (random, on) => ({ do: 'write', on, length: random.length(), seed: random.seed() }),
  readv: (random, on) => ({ do: 'readv', on, lengths: [random.length(), random.length()] }),
  writev: (random, on) => {
    return { do: 'writev', on, lengths: [random.length(), random.length()], seed: random.seed() };
  },
  lseek: (random, on) => {
    const whence = random.pick(['SEEK_SET', 'SEEK_CUR', 'SEEK_END'] as const);
    return { do: 'lseek', on, offset: whence === 'SEEK_SET' ? random.offset() : -random.length(), whence };
  },
  ftruncate: (random, on) => ({ do: 'ftruncate', on, size: random.offset() }),
  'map-read': (random) => ({ do: 'map-read', ...range(random) }),
  'map-write': (random) => ({ do: 'map-write', ...range(random), seed: random.seed() }),
  remap: () => ({ do: 'remap' }),
  'splice-out': (random, on) => ({ do: 'splice-out', on, ...range(random) }),
  'splice-in': (random, on) => ({ do: 'splice-in', on, ...range(random), seed: random.seed() }),
  copy: (random, from) => {
    const { offset: offIn, length } = range(random);
    return { do: 'copy', from, to: random.pick(HANDLES), offIn, offOut: random.offset(), length };
  },
  fallocate: (random, on) => {
    const { offset, length } = range(random);
    return { do: 'fallocate', on, mode: random.pick(SPACE_MODES), offset, length: length + 1 };
  },
  setfl: (random, on) => ({ do: 'setfl', on, ...flags(random) }),
  reopen: (random, on) => ({ do: 'reopen', on, ...flags(random) }),
};

function draw(random: FileRandom): Operation {
  return DRAWS[random.pick(KINDS)](random, random.pick(HANDLES));
}

export interface SequenceRequest {
  readonly seed: number;
  readonly count: number;
  /** Whether mappings take part. */
  readonly maps: boolean;
}

/** A sequence of `count` operations that may be done one after the other on a new, empty file. */
export function generate({ seed, count, maps }: SequenceRequest): Operation[] {
  const random = new FileRandom(seed);
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
