import { readdir, readFile, readlink } from 'node:fs/promises';

/** Seen often enough to catch the last figure of a process before it ends. Milliseconds. */
const EVERY_MS = 200;

/**
 * Watches the peak resident memory of a process and of all below it that run the same program: the runner, AVA
 * and AVA's test processes, but not QEMU, whose memory is the guest's.
 */
export class PeakMemory implements Disposable {
  readonly #root: number;
  /** Bytes by process number. */
  readonly #peaks = new Map<number, number>();
  readonly #timer: NodeJS.Timeout;
  #looking = false;

  constructor(root: number) {
    this.#root = root;
    this.#timer = setInterval(() => void this.#look(), EVERY_MS);
  }

  /** Of the process itself. Megabytes (10^6). */
  get ofRootMb(): number {
    return (this.#peaks.get(this.#root) ?? 0) / 1e6;
  }

  /**
   * The sum of every process's own peak, as if all had come at once: never too little. Megabytes (10^6).
   */
  get ofAllMb(): number {
    return this.#peaks.values().reduce((sum, bytes) => sum + bytes, 0) / 1e6;
  }

  async #look(): Promise<void> {
    if (this.#looking) return;
    this.#looking = true;
    const program = await programOf(this.#root);
    for (const pid of await treeOf(this.#root)) {
      if (program === undefined || (await programOf(pid)) !== program) continue;
      const bytes = peakOf(await readFile(`/proc/${pid}/status`, 'utf8').catch(() => ''));
      if (bytes !== undefined) this.#peaks.set(pid, bytes);
    }
    this.#looking = false;
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }
}

/** proc(5): `VmHWM:     123456 kB`; the kernel's kB are 1024 bytes. */
export function peakOf(status: string): number | undefined {
  const kib = /^VmHWM:\s+(\d+) kB$/m.exec(status)?.[1];
  return kib === undefined ? undefined : Number(kib) * 1024;
}

async function programOf(pid: number): Promise<string | undefined> {
  return readlink(`/proc/${pid}/exe`).catch(() => undefined);
}

/** The process and its descendants. A child belongs to the thread that made it. */
async function treeOf(pid: number): Promise<readonly number[]> {
  const found = [pid];
  for (const thread of await readdir(`/proc/${pid}/task`).catch(() => [])) {
    const children = await readFile(`/proc/${pid}/task/${thread}/children`, 'utf8').catch(() => '');
    for (const child of children.split(' ').filter((word) => word !== '')) {
      found.push(...(await treeOf(Number(child))));
    }
  }
  return found;
}
