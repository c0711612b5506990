import { watch, type FSWatcher } from 'node:fs';
import { open, type FileHandle } from 'node:fs/promises';
import { StringDecoder } from 'node:string_decoder';
import { CONSOLE_BOUNDS, ConsoleCut, type ConsoleBounds, type FilePart } from './console-cut.ts';
import { cleanLine, MAX_LINE, splitLines } from './console-text.ts';

/** QEMU writes single bytes; reading once for many of them keeps the host idle. Milliseconds. */
const GATHER_MS = 20;

export interface FollowOptions {
  /** Every whole line, as it came, in order. */
  readonly onLine: (line: string) => void;
  /** The console is more than is kept, or something else worth a line. */
  readonly onNote: (text: string) => void;
  readonly bounds?: ConsoleBounds;
}

/**
 * Follows the console file that QEMU writes. The file stays as it is written, but for the middle of one that is
 * too long: a guest can print for ever.
 */
export class ConsoleLog implements AsyncDisposable {
  readonly path: string;
  readonly #file: FileHandle;
  readonly #options: FollowOptions;
  readonly #cut: ConsoleCut;
  readonly #decoder = new StringDecoder('utf8');
  #watcher: FSWatcher | undefined;
  #gathering: NodeJS.Timeout | undefined;
  #reading: Promise<void> = Promise.resolve();
  #offset = 0;
  #rest = '';
  #closed = false;

  private constructor(path: string, file: FileHandle, options: FollowOptions) {
    this.path = path;
    this.#file = file;
    this.#options = options;
    this.#cut = new ConsoleCut(path, options.bounds ?? CONSOLE_BOUNDS);
  }

  /** `path` must exist. */
  static async follow(path: string, options: FollowOptions): Promise<ConsoleLog> {
    const log = new ConsoleLog(path, await open(path, 'r'), options);
    log.#watcher = watch(path, () => log.#gather());
    log.#watcher.on('error', () => undefined);
    return log;
  }

  /** Bytes read so far. */
  get offset(): number {
    return this.#offset;
  }

  /** Reads what there is now; lines that are complete have been handed on when it resolves. */
  async drain(): Promise<void> {
    this.#reading = this.#reading.then(async () => this.#read());
    return this.#reading;
  }

  /** Cleaned lines from a byte offset to what has been read, without what is no longer there. */
  async since(offset: number): Promise<readonly string[]> {
    await this.drain();
    const file = await open(this.path, 'r');
    try {
      const lines: string[] = [];
      for (const part of this.#cut.parts(offset, this.#offset)) {
        if (typeof part === 'string') lines.push(part);
        else for (const line of await readLines(file, part)) lines.push(line);
      }
      return lines;
    } finally {
      await file.close();
    }
  }

  /** When nobody writes to the console any more. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#closed) return;
    this.#watcher?.close();
    clearTimeout(this.#gathering);
    await this.drain();
    this.#closed = true;
    if (this.#rest !== '') this.#options.onLine(this.#rest);
    await this.#file.close();
    await this.#cut.closeUp(this.#offset);
  }

  #gather(): void {
    this.#gathering ??= setTimeout(() => {
      this.#gathering = undefined;
      void this.drain();
    }, GATHER_MS);
  }

  async #read(): Promise<void> {
    const buffer = Buffer.allocUnsafe(1 << 16);
    while (!this.#closed) {
      const { bytesRead } = await this.#file.read(buffer, 0, buffer.byteLength, this.#offset);
      if (bytesRead === 0) return;
      this.#offset += bytesRead;
      const { lines, rest } = splitLines(this.#rest + this.#decoder.write(buffer.subarray(0, bytesRead)));
      this.#rest = rest.slice(0, MAX_LINE);
      for (const line of lines) this.#options.onLine(line);
      const note = await this.#cut.keepSmall(this.#offset);
      if (note !== undefined) this.#options.onNote(note);
    }
  }
}

async function readLines(file: FileHandle, { from, to }: FilePart): Promise<readonly string[]> {
  const start = Math.max(from, to - MAX_PART);
  const buffer = Buffer.alloc(Math.max(0, to - start));
  const { bytesRead } = await file.read(buffer, 0, buffer.byteLength, start);
  const lines = buffer.toString('utf8', 0, bytesRead).split('\n');
  if (lines.at(-1) === '') lines.pop();
  return lines.map(cleanLine);
}

/** Bytes of console that are held in memory at most, where its file could not be cut. */
const MAX_PART = 8 * 2 ** 20;
