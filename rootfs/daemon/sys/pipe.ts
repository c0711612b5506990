import { closeSync, writeSync } from 'node:fs';
import { constants } from 'node:os';
import { flagBits } from './constants.ts';
import { pollReadable, pollWritable, readerInto, type PollHandle } from './ffi.ts';
import { syscallSync, valueOf } from './syscall.ts';

/**
 * Bytes through pipes, by plain read(2) and write(2) when there is something to do. Node's streams do the same with
 * many times the JavaScript, which an emulated machine feels: every call of a test passes four of them.
 */

const { EAGAIN } = constants.errno;
const BUFFER_BYTES = 64 * 1024;

/** Both ends are closed in programs that this process starts, unless it hands them over. @throws SystemError */
export function makePipe(): { readonly readEnd: number; readonly writeEnd: number } {
  const ends = new Int32Array(2);
  valueOf('pipe2', syscallSync('pipe2', new Uint8Array(ends.buffer), flagBits('O_CLOEXEC')));
  const [readEnd = -1, writeEnd = -1] = ends;
  return { readEnd, writeEnd };
}

/** What comes from a descriptor until its end. Makes it non-blocking. */
export class PipeReader {
  readonly #fd: number;
  readonly #receive: (chunk: Uint8Array) => void;
  readonly #buffer = Buffer.allocUnsafeSlow(BUFFER_BYTES);
  readonly #read = readerInto(this.#buffer);
  #poll: PollHandle | undefined;

  /** `ended`: by the other side, and only once. */
  constructor(fd: number, receive: (chunk: Uint8Array) => void, ended: () => void) {
    this.#fd = fd;
    this.#receive = receive;
    this.#poll = pollReadable(fd, () => {
      if (!this.#readOnce().ended) return;
      this.stop();
      ended();
    });
  }

  /** Takes what is there, and nothing after it. */
  finish(): void {
    while (this.#poll !== undefined) if (this.#readOnce().empty) this.stop();
  }

  stop(): void {
    this.#poll?.close();
    this.#poll = undefined;
  }

  #readOnce(): { readonly ended: boolean; readonly empty: boolean } {
    const length = this.#read(this.#fd);
    // What is made of it outlives this buffer.
    if (length > 0) this.#receive(Uint8Array.from(this.#buffer.subarray(0, length)));
    return { ended: length === 0 || (length < 0 && length !== -EAGAIN), empty: length <= 0 };
  }
}

/** Never waits: what the pipe does not take is kept until it does. Makes the descriptor non-blocking and owns it. */
export class PipeWriter {
  readonly #fd: number;
  #kept: Uint8Array[] = [];
  #poll: PollHandle | undefined;
  #open = true;

  constructor(fd: number) {
    this.#fd = fd;
    valueOf('fcntl', syscallSync('fcntl', fd, flagBits('F_SETFL'), flagBits('O_NONBLOCK')));
  }

  /** Into a pipe that nobody reads any more: nothing happens. Whoever asked is told of it in another way. */
  write(bytes: Uint8Array): void {
    if (!this.#open) return;
    if (this.#kept.length > 0) this.#kept.push(bytes);
    else this.#keep(bytes, this.#writeSome(bytes));
  }

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    this.#poll?.close();
    closeSync(this.#fd);
  }

  /** What the pipe has not taken, of the first that it was given. @returns whether it has taken all. */
  #keep(bytes: Uint8Array, done = 0): boolean {
    if (done === bytes.length) return true;
    this.#kept.unshift(bytes.subarray(done));
    if (this.#open) this.#poll ??= pollWritable(this.#fd, () => this.#flush());
    return false;
  }

  #flush(): void {
    for (let first = this.#kept.shift(); first !== undefined; first = this.#kept.shift()) {
      if (!this.#keep(first, this.#writeSome(first))) return;
    }
    this.#poll?.close();
    this.#poll = undefined;
  }

  /** @returns undefined when nothing more is taken now, or ever. */
  #writeSome(bytes: Uint8Array): number | undefined {
    try {
      return writeSync(this.#fd, bytes);
    } catch (error) {
      if (!isAgain(error)) this.close();
      return undefined;
    }
  }
}

function isAgain(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'EAGAIN';
}
