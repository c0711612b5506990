import { readFileSync, writeFileSync } from 'node:fs';
import type { ResetReport } from '../../protocol/calls.ts';
import { until } from './until.ts';

/** Of filesystems that only tests mount; the constructor of their inodes keeps SLUB from merging them with others. */
const CACHES = ['fuse_inode', 'ovl_inode', 'ecryptfs_inode_cache'] as const;
/** Processes that are kept for the next test come and go between two looks; each has some dozens of files open. */
const MARGIN_FILES = 256;
const OPEN_FILES = 'open files';
/** Inodes are freed after a grace period of RCU. Milliseconds. */
const SETTLES_MS = 500;

type Grown = ResetReport['leftObjects'][number];

/**
 * Counts of kernel objects that no test may leave: inodes of filesystems that are not mounted any more, and open
 * files. Counts go down late, so only what has grown and stays so for a while is told. A kernel without
 * /sys/kernel/slab has only the files.
 */
export class KernelObjects {
  readonly #before = new Map<string, number>();
  readonly #read: (name: string) => number | undefined;

  constructor(read = readCount) {
    this.#read = read;
  }

  /** The first call only remembers. @returns what there is more of than there ever was at the end of a test. */
  async grown(settlesMs = SETTLES_MS): Promise<Grown[]> {
    let grown = this.#look();
    await until(() => {
      if (grown.length > 0) grown = this.#look();
      return grown.length === 0;
    }, settlesMs);
    // What is left is told once: whoever goes on with this machine in spite of it has it as the new beginning.
    for (const { name, now } of grown) this.#before.set(name, now);
    return grown;
  }

  #look(): Grown[] {
    return [...CACHES, OPEN_FILES].flatMap((name) => {
      const now = this.#read(name);
      if (now === undefined) return [];
      const before = this.#before.get(name);
      if (before === undefined || now < before) this.#before.set(name, now);
      const margin = name === OPEN_FILES ? MARGIN_FILES : 0;
      return before !== undefined && now > before + margin ? [{ name, before, now }] : [];
    });
  }
}

function readCount(name: string): number | undefined {
  try {
    // proc(5): the first of three numbers, summed up exactly when it is read.
    if (name === OPEN_FILES) return Number.parseInt(readFileSync('/proc/sys/fs/file-nr', 'utf8'), 10);
    const cache = `/sys/kernel/slab/${name}`;
    // Until it is shrunk a cache counts the free objects in the slabs of the CPUs as used.
    writeFileSync(`${cache}/shrink`, '1');
    return Number.parseInt(readFileSync(`${cache}/objects`, 'utf8'), 10);
  } catch {
    return undefined;
  }
}
