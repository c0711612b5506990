import { open, rename, rm } from 'node:fs/promises';
import { exec } from '#runner/lib/exec.ts';

/** How much of a console is kept when there is more. Bytes. */
export interface ConsoleBounds {
  /** From its beginning. A whole number of blocks. */
  readonly head: number;
  /** From its end, and up to twice as much for a moment. */
  readonly tail: number;
}

/** Thousands of lines of boot and of tests; any fault's trace is far shorter. */
export const CONSOLE_BOUNDS: ConsoleBounds = { head: 2 ** 20, tail: 2 * 2 ** 20 };

/**
 * What has been taken out of the middle of a console file that is still written to. The bytes become a hole
 * (fallocate(1)), so that nobody's place in the file moves and nothing that is being written can be lost.
 */
export class ConsoleCut {
  readonly #path: string;
  readonly #bounds: ConsoleBounds;
  /** Where the hole ends; the head's end: there is none. */
  #end: number;
  #possible = true;
  /** Bytes by which what comes after the hole has moved forward, once the file is closed up. */
  #moved = 0;

  constructor(path: string, bounds: ConsoleBounds) {
    this.#path = path;
    this.#bounds = bounds;
    this.#end = bounds.head;
  }

  /** Bytes that are missing. */
  get missing(): number {
    return this.#end - this.#bounds.head;
  }

  /** Makes the hole larger when `written` bytes are too many. @returns a word on it, the first time. */
  async keepSmall(written: number): Promise<string | undefined> {
    const { head, tail } = this.#bounds;
    if (!this.#possible || written < this.#end + 2 * tail) return undefined;
    const first = this.#end === head;
    const end = written - tail;
    const range = ['--offset', String(this.#end), '--length', String(end - this.#end)];
    const done = await exec('fallocate', ['--punch-hole', ...range, this.#path]).catch(() => undefined);
    this.#possible = done?.exitCode === 0;
    if (!this.#possible) return 'the guest floods its console, whose file cannot be cut on this file system';
    this.#end = end;
    return first
      ? `the guest floods its console: its first ${inMib(head)} and its last ${inMib(tail)} are kept`
      : undefined;
  }

  /** Where in the file as it is now that is which was written from byte `from` to byte `to`; a word for what is cut out. */
  parts(from: number, to: number): readonly (FilePart | string)[] {
    const { head } = this.#bounds;
    const rest = { from: Math.max(from, this.#end) - this.#moved, to: to - this.#moved };
    if (this.missing === 0 || to <= head) return [{ from, to }];
    if (from >= this.#end) return [rest];
    const cut = cutLine(this.#end - Math.max(from, head));
    return from < head ? [{ from, to: head }, cut, rest] : [cut, rest];
  }

  /** Puts one line in the place of the hole. When nobody writes to the file any more. */
  async closeUp(written: number): Promise<void> {
    if (this.missing === 0) return;
    const { head } = this.#bounds;
    const draft = `${this.#path}.draft`;
    const line = Buffer.from(`\n${cutLine(this.missing)}\n`);
    try {
      await using from = await open(this.#path, 'r');
      await using to = await open(draft, 'w');
      await copy(from, { from: 0, to: head }, to);
      await to.write(line);
      await copy(from, { from: this.#end, to: written }, to);
      await rename(draft, this.#path);
      this.#moved = this.missing - line.byteLength;
    } catch {
      // It keeps its hole, which costs nothing.
      await rm(draft, { force: true });
    }
  }
}

/** Bytes of a file. */
export interface FilePart {
  readonly from: number;
  readonly to: number;
}

type OpenFile = Awaited<ReturnType<typeof open>>;

async function copy(source: OpenFile, { from, to }: FilePart, target: OpenFile): Promise<void> {
  const buffer = Buffer.allocUnsafe(1 << 16);
  for (let at = from; at < to;) {
    const { bytesRead } = await source.read(buffer, 0, Math.min(buffer.byteLength, to - at), at);
    if (bytesRead === 0) return;
    await target.writeFile(buffer.subarray(0, bytesRead));
    at += bytesRead;
  }
}

function cutLine(bytes: number): string {
  return `fusegate: ${bytes} bytes of the console are cut out here`;
}

function inMib(bytes: number): string {
  return `${Math.round(bytes / 2 ** 20)} MiB`;
}
