import { watch, type FSWatcher } from 'node:fs';
import { open, type FileHandle } from 'node:fs/promises';
import { StringDecoder } from 'node:string_decoder';
import { cleanLine, MAX_LINE, splitLines } from './console-text.ts';

/** QEMU writes single bytes; reading once for many of them keeps the host idle. Milliseconds. */
const GATHER_MS = 20;

/**
 * Follows the console file that QEMU writes and hands on every whole line, as it came, in order.
 * The file itself stays complete and untouched.
 */
export class ConsoleLog implements AsyncDisposable {
  readonly path: string;
  readonly #file: FileHandle;
  readonly #onLine: (line: string) => void;
  readonly #decoder = new StringDecoder('utf8');
  #watcher: FSWatcher | undefined;
  #gathering: NodeJS.Timeout | undefined;
  #reading: Promise<void> = Promise.resolve();
  #offset = 0;
  #rest = '';
  #closed = false;

  private constructor(path: string, file: FileHandle, onLine: (line: string) => void) {
    this.path = path;
    this.#file = file;
    this.#onLine = onLine;
  }

  /** `path` must exist. */
  static async follow(path: string, onLine: (line: string) => void): Promise<ConsoleLog> {
    const log = new ConsoleLog(path, await open(path, 'r'), onLine);
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

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#closed) return;
    this.#watcher?.close();
    clearTimeout(this.#gathering);
    await this.drain();
    this.#closed = true;
    if (this.#rest !== '') this.#onLine(this.#rest);
    await this.#file.close();
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
      for (const line of lines) this.#onLine(line);
    }
  }
}

/** Cleaned lines of a console file from a byte offset to its end (at most the last `MAX_SLICE` bytes). */
export async function readConsole(path: string, from: number): Promise<readonly string[]> {
  const file = await open(path, 'r');
  try {
    const { size } = await file.stat();
    const start = Math.max(from, size - MAX_SLICE);
    const buffer = Buffer.alloc(Math.max(0, size - start));
    const { bytesRead } = await file.read(buffer, 0, buffer.byteLength, start);
    const lines = buffer.toString('utf8', 0, bytesRead).split('\n');
    if (lines.at(-1) === '') lines.pop();
    return lines.map(cleanLine);
  } finally {
    await file.close();
  }
}

/** Bytes of console that are held in memory at most. */
const MAX_SLICE = 8 * 1024 * 1024;
