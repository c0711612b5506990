import { Random, weighted } from '../differential/random.ts';
import { RENAME_FLAGS, type TreeOperation, type TreeOperationName } from './operation.ts';
import { after, EMPTY_TREE, leftOut, type Kind, type Limits, type TreeModel } from './tree-model.ts';

/** Few, so that they meet. The last is as long as names are seldom. */
const NAMES = ['a', 'b', 'c', 'a-name-that-is-longer-than-what-a-block-of-a-cipher-holds'] as const;
const DEPTH = 3;
const FILE_MODES = [0o644, 0o600, 0o755, 0o640, 0o4755, 0o2711, 0o444] as const;
const DIRECTORY_MODES = [0o755, 0o700, 0o2775, 0o1777, 0o555] as const;
const OWNERS = [0, 1000, 1001] as const;
const ATTRIBUTES = ['user.word', 'user.other', 'trusted.word'] as const;
/** Nobody follows them: where they lead would be another matter. */
const TARGETS = ['nowhere', '../nowhere', 'n'.repeat(200)] as const;
/** Long before now, so that they are told from the time of a change; whole seconds, as ecryptfs keeps them. */
const TIMES = [1e15, 2e15, 9e17] as const;
const MAX_BYTES = 20_000;

/** How often each kind comes, relative to the others. */
const WEIGHTS: Readonly<Record<TreeOperationName, number>> = {
  mkdir: 9,
  create: 10,
  overwrite: 3,
  append: 4,
  truncate: 3,
  unlink: 6,
  rmdir: 4,
  look: 2,
  list: 2,
  rename: 10,
  link: 4,
  symlink: 3,
  mkfifo: 1,
  chmod: 3,
  chown: 3,
  utimens: 3,
  setxattr: 4,
  removexattr: 2,
  hold: 2,
  'held-write': 2,
  'held-look': 1,
  opendir: 2,
  reread: 3,
  again: 0,
};

const KINDS = weighted(WEIGHTS);

/** Draws from a tree that is known: mostly what is there, and new names where there are none. */
class TreeRandom extends Random {
  model: TreeModel = EMPTY_TREE;

  anywhere(): string {
    return Array.from({ length: 1 + this.below(DEPTH) }, () => this.pick(NAMES)).join('/');
  }

  old(...kinds: readonly Kind[]): string {
    const there = [...this.model].filter(([, kind]) => kinds.length === 0 || kinds.includes(kind));
    return there.length === 0 || this.chance(10) ? this.anywhere() : this.pick(there)[0];
  }

  fresh(): string {
    const directories = [...this.model].filter(([, kind]) => kind === 'directory').map(([name]) => name);
    const parent = this.pick(['', ...directories].filter((name) => name.split('/').length < DEPTH));
    const free = NAMES.map((name) => (parent === '' ? name : `${parent}/${name}`)).filter(
      (path) => !this.model.has(path),
    );
    return free.length === 0 || this.chance(12) ? this.anywhere() : this.pick(free);
  }

  length(): number {
    return this.chance(4) ? 0 : this.below(MAX_BYTES);
  }
}

type Draw = (random: TreeRandom) => TreeOperation;

const DRAWS: Readonly<Record<TreeOperationName, Draw>> = {
  mkdir: (random) => ({ do: 'mkdir', path: random.fresh(), mode: random.pick(DIRECTORY_MODES) }),
  create: (random) => {
    const mode = random.pick(FILE_MODES);
    return { do: 'create', path: random.fresh(), mode, length: random.length(), seed: random.seed() };
  },
  overwrite: (random) => {
    return { do: 'overwrite', path: random.old('file'), length: random.length(), seed: random.seed() };
  },
  append: (random) => {
    return { do: 'append', path: random.old('file'), length: random.length(), seed: random.seed() };
  },
  truncate: (random) => ({ do: 'truncate', path: random.old('file'), size: random.length() }),
  unlink: (random) => ({ do: 'unlink', path: random.old('file', 'other') }),
  rmdir: (random) => ({ do: 'rmdir', path: random.old('directory') }),
  look: (random) => ({ do: 'look', path: random.anywhere() }),
  list: (random) => ({ do: 'list', path: random.old('directory') }),
  rename: (random) => {
    const flags = random.pick(RENAME_FLAGS);
    const onto = flags === 'RENAME_EXCHANGE' || random.chance(3);
    return { do: 'rename', from: random.old(), to: onto ? random.old() : random.fresh(), flags };
  },
  link: (random) => ({ do: 'link', from: random.old('file', 'other'), to: random.fresh() }),
  symlink: (random) => ({ do: 'symlink', path: random.fresh(), target: random.pick(TARGETS) }),
  mkfifo: (random) => ({ do: 'mkfifo', path: random.fresh(), mode: random.pick(FILE_MODES) }),
  chmod: (random) => {
    const path = random.old();
    const modes = random.model.get(path) === 'directory' ? DIRECTORY_MODES : FILE_MODES;
    return { do: 'chmod', path, mode: random.pick(modes) };
  },
  chown: (random) => {
    return { do: 'chown', path: random.old(), uid: random.pick(OWNERS), gid: random.pick(OWNERS) };
  },
  utimens: (random) => ({ do: 'utimens', path: random.old(), mtimeNs: random.pick(TIMES) }),
  setxattr: (random) => {
    const value = 'v'.repeat(1 + random.below(60));
    return { do: 'setxattr', path: random.old(), name: random.pick(ATTRIBUTES), value };
  },
  removexattr: (random) => ({ do: 'removexattr', path: random.old(), name: random.pick(ATTRIBUTES) }),
  hold: (random) => ({ do: 'hold', path: random.old('file') }),
  'held-write': (random) => {
    return { do: 'held-write', offset: random.length(), length: random.length(), seed: random.seed() };
  },
  'held-look': () => ({ do: 'held-look' }),
  opendir: (random) => ({ do: 'opendir', path: random.old('directory') }),
  reread: () => ({ do: 'reread' }),
  again: () => ({ do: 'again' }),
};

export interface TreeRequest {
  readonly seed: number;
  /** Without those that begin again. */
  readonly count: number;
  /** How often all begins again, in equal parts of the sequence. */
  readonly again: number;
  readonly limits: Limits;
}

/** Of those that are left out no end is expected before this. */
const DRAWS_FOR_ONE = 100;

/** A sequence that may be done one step after the other in an empty directory. */
export function generate({ seed, count, again, limits }: TreeRequest): TreeOperation[] {
  const random = new TreeRandom(seed);
  const operations: TreeOperation[] = [];
  const part = Math.ceil(count / (again + 1));
  let left = DRAWS_FOR_ONE * count;
  for (let drawn = 0; drawn < count;) {
    if (left-- === 0) throw new RangeError('nearly everything is left out here');
    const operation = DRAWS[random.pick(KINDS)](random);
    if (leftOut(operation, random.model, limits) !== undefined) continue;
    random.model = after(random.model, operation);
    operations.push(operation);
    drawn += 1;
    if (drawn % part === 0 && drawn < count) operations.push({ do: 'again' });
  }
  return operations;
}
