import { readdirSync, readlinkSync } from 'node:fs';
import { syscall } from './syscall.ts';

/**
 * The descriptors a process needs for itself, as they were before any test used it: what to go back to when
 * the next test is to have it.
 */
export class Descriptors {
  readonly #own: ReadonlyMap<number, string>;

  constructor() {
    this.#own = openDescriptors();
  }

  /**
   * Closes everything else, on the pool: close(2) of a file may have to wait for a FUSE server.
   * @returns whether the process has exactly its own descriptors again, each still for the same thing.
   */
  async restore(): Promise<boolean> {
    for (const fd of openDescriptors().keys()) {
      if (!this.#own.has(fd)) await syscall('close', fd);
    }
    const now = openDescriptors();
    return now.size === this.#own.size && [...this.#own].every(([fd, target]) => now.get(fd) === target);
  }
}

/** Number and target of each; the descriptor that lists them is closed by then and has none. */
function openDescriptors(): Map<number, string> {
  const found = new Map<number, string>();
  for (const name of readdirSync('/proc/self/fd')) {
    const target = targetOf(name);
    if (target !== undefined) found.set(Number(name), target);
  }
  return found;
}

function targetOf(name: string): string | undefined {
  try {
    return readlinkSync(`/proc/self/fd/${name}`);
  } catch {
    return undefined;
  }
}
