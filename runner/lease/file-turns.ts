import type { Emit } from '#runner/lib/events.ts';
import { WaitingLine } from './waiting-line.ts';

/**
 * Which test files may ask for machines: as many as there are machines, each from its first test to the end of its
 * process. Another process can be up by then, with its file loaded, and goes on at once.
 */
export class FileTurns {
  readonly #size: number;
  readonly #having = new Set<string>();
  readonly #line = new WaitingLine<string>();

  /** @param size how many files have a turn at the same time. */
  constructor(size: number) {
    this.#size = size;
  }

  /** In the order in which they come. Who has a turn keeps it. @throws the reason of `signal` when that fires. */
  async take(file: string, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    if (this.#having.has(file)) return;
    if (this.#having.size < this.#size) {
      this.#having.add(file);
      return;
    }
    await this.#line.wait(file, signal);
  }

  /** The same `emit`, and the end of a file is the end of its turn. */
  watch(emit: Emit): Emit {
    return (event) => {
      emit(event);
      if (event.type === 'file-finished') this.end(event.file);
    };
  }

  /** Its tests want no machine now: a process may have died before its turn came. A file may come again. */
  end(file: string): void {
    if (!this.#having.delete(file)) return;
    // Whoever else waits for the same file has its turn with it.
    const next = this.#line.callFirstAndAlike();
    if (next !== undefined) this.#having.add(next);
  }
}
