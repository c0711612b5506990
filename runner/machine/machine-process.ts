import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { open } from 'node:fs/promises';
import { basename } from 'node:path';
import { beforeDeadline } from '#runner/lib/deadline.ts';
import { endGroup } from '#runner/lib/end-group.ts';
import { commandLineOf, groupMembers, signalGroup } from '#runner/lib/process-table.ts';
import type { QmpChannel } from './qmp.ts';

/** How QEMU, or virtme-ng that had started it, came to its end. */
export interface ProcessEnd {
  readonly exitCode: number | null;
  readonly signal: NodeJS.Signals | null;
}

export interface LaunchOptions {
  readonly program: string;
  readonly args: readonly string[];
  readonly cwd: string;
  readonly env: Readonly<Record<string, string>>;
  /** Receives standard output, which virtme-ng makes the guest's serial port. Written by QEMU itself. */
  readonly consolePath: string;
  /** Receives standard error: what virtme-ng and QEMU complain about. */
  readonly errorPath: string;
}

/** How much of standard error is kept in memory. Characters. */
const MAX_COMPLAINT = 16_384;

const LAST_COMPLAINT_MS = 500;

/**
 * vng or QEMU and everything below it: a process group of its own, so that Ctrl-C on our terminal does not reach it
 * and one signal reaches all of it.
 */
export class MachineProcess {
  readonly #child: ChildProcess;
  /** Never rejects. */
  readonly ended: Promise<ProcessEnd>;
  #complaint = '';
  #end: ProcessEnd | undefined;

  private constructor(child: ChildProcess) {
    this.#child = child;
    // Its end is told by the end of the process.
    child.stdin?.on('error', () => undefined);
    child.stderr?.setEncoding('utf8');
    child.stderr?.on('data', (text: string) => {
      this.#complaint = (this.#complaint + text).slice(-MAX_COMPLAINT);
    });
    this.ended = new Promise((resolve) => {
      child.once('exit', (exitCode, signal) => {
        const end = { exitCode, signal };
        this.#end = end;
        // What it complained about last arrives after its end, unless somebody below it still has the pipe.
        const enough = setTimeout(() => resolve(end), LAST_COMPLAINT_MS);
        child.once('close', () => {
          clearTimeout(enough);
          resolve(end);
        });
      });
    });
  }

  static async launch(options: LaunchOptions): Promise<MachineProcess> {
    const console = await open(options.consolePath, 'w');
    const errors = await open(options.errorPath, 'w');
    try {
      const child = spawn(options.program, [...options.args], {
        cwd: options.cwd,
        env: { ...process.env, ...options.env },
        // A pipe of Node's is a socket; virtme-ng cannot open it a second time and so leaves out its own
        // virtio console, of which we have no need.
        stdio: ['pipe', console.fd, 'pipe'],
        detached: true,
      });
      const launched = new MachineProcess(child);
      child.stderr?.pipe(errors.createWriteStream());
      await once(child, 'spawn');
      return launched;
    } finally {
      await console.close();
    }
  }

  /** Number of the process group. */
  get group(): number {
    return this.#child.pid ?? 0;
  }

  /** What virtme-ng and QEMU wrote to standard error, its end. */
  get complaint(): string {
    return this.#complaint;
  }

  /** To standard input, which virtme-ng makes the guest's serial port. */
  type(text: string): void {
    this.#child.stdin?.write(text);
  }

  /** The words with which a program of ours was started, by the name of its file. */
  async commandLine(program: string): Promise<readonly string[] | undefined> {
    const members = await groupMembers(this.group);
    const all = await Promise.all(members.map(async ({ pid }) => commandLineOf(pid)));
    return all.find(([file = '']) => basename(file) === program);
  }

  /** Asks QEMU to quit, then SIGTERM, then SIGKILL to the whole group. Afterwards nothing of it runs. */
  async stop(qmp: QmpChannel, stepMs: number): Promise<void> {
    if (this.#end === undefined && qmp.quit() && (await this.#endsWithin(stepMs))) return this.#sweep();
    if (this.#end === undefined && signalGroup(this.group, 'SIGTERM')) await this.#endsWithin(stepMs);
    return this.#sweep();
  }

  async #endsWithin(limitMs: number): Promise<boolean> {
    return beforeDeadline(
      this.ended.then(() => true),
      limitMs,
      () => false,
    );
  }

  /** virtme-ng can be gone while QEMU is not. */
  async #sweep(): Promise<void> {
    await endGroup(this.group);
    await this.ended;
  }
}
