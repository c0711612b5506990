import { readdir, readFile, readlink } from 'node:fs/promises';

/** Seen often enough to catch the last figure of a process before it ends. Milliseconds. */
const EVERY_MS = 200;

/**
 * Watches the resident memory of a process and of all below it that run the same program: the runner, AVA and
 * AVA's test processes, but not QEMU, whose memory is the guest's.
 */
export class PeakMemory implements Disposable {
  readonly #root: number;
  readonly #timer: NodeJS.Timeout;
  #ofRoot = 0;
  #ofAll = 0;
  #looking = false;

  constructor(root: number) {
    this.#root = root;
    this.#timer = setInterval(() => void this.#look(), EVERY_MS);
  }

  /** The peak of the process itself, as the kernel keeps it. Megabytes (10^6). */
  get ofRootMb(): number {
    return this.#ofRoot / 1e6;
  }

  /** The highest that was seen of all together, pages that they share counted once. Megabytes (10^6). */
  get ofAllMb(): number {
    return this.#ofAll / 1e6;
  }

  async #look(): Promise<void> {
    if (this.#looking) return;
    this.#looking = true;
    const status = await readFile(`/proc/${this.#root}/status`, 'utf8').catch(() => '');
    this.#ofRoot = Math.max(this.#ofRoot, fieldOf(status, 'VmHWM') ?? 0);
    const program = await programOf(this.#root);
    let sum = 0;
    for (const pid of await treeOf(this.#root)) {
      if (program === undefined || (await programOf(pid)) !== program) continue;
      sum += fieldOf(await readFile(`/proc/${pid}/smaps_rollup`, 'utf8').catch(() => ''), 'Pss') ?? 0;
    }
    this.#ofAll = Math.max(this.#ofAll, sum);
    this.#looking = false;
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }
}

/** Bytes of a field as proc(5) writes it: `VmHWM:     123456 kB`; the kernel's kB are 1024 bytes. */
export function fieldOf(text: string, name: string): number | undefined {
  const kib = new RegExp(`^${name}:\\s+(\\d+) kB$`, 'm').exec(text)?.[1];
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
