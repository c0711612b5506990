import type { Evidence, Failure } from '#runner/lib/failure.ts';
import { consoleEvent, type ConsoleEvent } from './console-events.ts';
import { cleanLine } from './console-text.ts';
import { machineFailure, type Witness } from './machine-failure.ts';
import type { Accelerator } from './machine.ts';
import type { MachineProcess, ProcessEnd } from './machine-process.ts';
import type { QmpChannel } from './qmp.ts';

export interface WatchOptions {
  readonly accelerator: Accelerator;
  readonly evidence: readonly Evidence[];
  /** How long the console may go on after a fault before the machine is given up. */
  readonly lastWordsMs: number;
  /** What was started for it. */
  readonly starter: 'virtme-ng' | 'QEMU';
  /** The machine goes on from a saved state: it does not boot. */
  readonly restored: boolean;
}

/** How much of the console a failure shows by itself. Lines. */
const LAST_LINES = 8;

/**
 * Collects what a machine shows of itself and decides when it is lost. A fault on the console counts at once
 * when QEMU ends with it (as it does after a panic), otherwise after the last words.
 */
export class MachineWatch {
  readonly #options: WatchOptions;
  readonly #init = Promise.withResolvers<undefined>();
  readonly #sshd = Promise.withResolvers<undefined>();
  readonly #lost = Promise.withResolvers<Failure>();
  readonly #seen = new Map<ConsoleEvent['kind'], ConsoleEvent>();
  #process: MachineProcess | undefined;
  #qmp: QmpChannel | undefined;
  #end: ProcessEnd | undefined;
  #lastWords: NodeJS.Timeout | undefined;
  readonly #lastLines: string[] = [];

  constructor(options: WatchOptions) {
    this.#options = options;
  }

  /** Resolves when our init has begun. */
  get initStarted(): Promise<undefined> {
    return this.#init.promise;
  }

  /** Resolves when the guest's sshd listens. */
  get sshdUp(): Promise<undefined> {
    return this.#sshd.promise;
  }

  /** Resolves with the reason when the machine is lost. */
  get lost(): Promise<Failure> {
    return this.#lost.promise;
  }

  /** The last line of the console that has any text. */
  get lastLine(): string | undefined {
    return this.#lastLines.at(-1);
  }

  /** The kernel has no /dev/fuse, as the init noticed. */
  get withoutFuse(): boolean {
    return this.#seen.has('no-fuse');
  }

  /** `settle` is awaited after the end, so that the console's last lines count. */
  observe(process: MachineProcess, qmp: QmpChannel, settle: () => Promise<void>): void {
    this.#process = process;
    this.#qmp = qmp;
    void process.ended.then(async (end) => {
      this.#end = end;
      await settle();
      this.#giveUp();
    });
  }

  readonly onLine = (line: string): void => {
    const cleaned = cleanLine(line).trim();
    if (cleaned !== '') {
      this.#lastLines.push(cleaned);
      if (this.#lastLines.length > LAST_LINES) this.#lastLines.shift();
    }
    const event = consoleEvent(line);
    if (event === undefined) return;
    if (!this.#seen.has(event.kind)) this.#seen.set(event.kind, event);
    switch (event.kind) {
      case 'init-started':
        this.#init.resolve(undefined);
        return;
      case 'sshd-up':
        this.#sshd.resolve(undefined);
        return;
      case 'no-fuse':
        return;
      case 'gave-up':
      case 'oops':
      case 'panic':
      case 'hang':
        this.#lastWords ??= setTimeout(() => this.#giveUp(), this.#options.lastWordsMs);
    }
  };

  /** Ends the watch: whoever still waits on the machine hears `reason`. */
  close(reason: Failure): void {
    clearTimeout(this.#lastWords);
    this.#lost.resolve(reason);
  }

  witness(): Witness {
    const title = (kind: 'oops' | 'panic' | 'hang'): string | undefined => {
      const event = this.#seen.get(kind);
      return event?.kind === kind ? event.title : undefined;
    };
    const gaveUp = this.#seen.get('gave-up');
    return {
      ...this.#options,
      initStarted: this.#options.restored || this.#seen.has('init-started'),
      booted: this.#options.restored || this.#seen.has('sshd-up'),
      oops: title('oops'),
      panic: title('panic'),
      hang: title('hang'),
      gaveUp: gaveUp?.kind === 'gave-up' ? gaveUp : undefined,
      end: this.#end,
      shutdownReason: this.#qmp?.shutdownReason,
      complaint: this.#process?.complaint ?? '',
      lastLines: [...this.#lastLines],
    };
  }

  #giveUp(): void {
    clearTimeout(this.#lastWords);
    this.#lost.resolve(machineFailure(this.witness()));
  }
}
