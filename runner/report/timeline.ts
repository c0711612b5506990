import type { EventSink, TimedEvent } from '#runner/lib/events.ts';

/** A stretch of time in a run. Milliseconds; `startMs` counts from the beginning of the run. */
export interface Span {
  readonly kind: 'stage' | 'boot' | 'restore' | 'machine' | 'file' | 'lease' | 'test';
  /** Stage, machine, `area/file` or test id. */
  readonly name: string;
  /** Machine on which it was; null for stages and files, and for a lease that never got one. */
  readonly machine: string | null;
  readonly startMs: number;
  readonly durationMs: number;
}

/** Puts together what began and what ended. What never ended is left out; the report says that elsewhere. */
export class Timeline {
  readonly #spans: Span[] = [];
  readonly #open = new Map<string, Omit<Span, 'durationMs'>>();

  readonly sink: EventSink = (event) => {
    switch (event.type) {
      case 'stage-started':
        this.#begin('stage', event.stage, null, event.at);
        return;
      case 'stage-finished':
      case 'stage-failed':
        this.#end('stage', event.stage, event.at);
        return;
      case 'machine-booting':
        this.#begin('machine', event.machine, event.machine, event.at);
        this.#begin(event.restored === true ? 'restore' : 'boot', event.machine, event.machine, event.at);
        return;
      case 'machine-ready':
        this.#end('boot', event.machine, event.at);
        this.#end('restore', event.machine, event.at);
        return;
      case 'machine-lost':
      case 'machine-stopped':
        this.#end('machine', event.machine, event.at);
        return;
      case 'file-started':
        this.#begin('file', event.file, null, event.at);
        return;
      case 'file-finished':
        this.#end('file', event.file, event.at);
        return;
      case 'lease-requested':
        this.#begin('lease', event.test, null, event.at);
        return;
      case 'lease-ended':
        this.#end('lease', event.test, event.at, event.machine);
        return;
      case 'test-started':
        this.#begin('test', event.id, event.machine, event.at);
        return;
      case 'test-finished':
        this.#end('test', event.id, event.at);
        return;
      default:
    }
  };

  /** In the order in which they began. */
  get spans(): Span[] {
    return this.#spans.toSorted((a, b) => a.startMs - b.startMs);
  }

  #begin(kind: Span['kind'], name: string, machine: string | null, at: TimedEvent['at']): void {
    this.#open.set(`${kind} ${name}`, { kind, name, machine, startMs: at });
  }

  #end(kind: Span['kind'], name: string, at: TimedEvent['at'], machine?: string | null): void {
    const key = `${kind} ${name}`;
    const open = this.#open.get(key);
    if (open === undefined) return;
    this.#open.delete(key);
    this.#spans.push({ ...open, machine: machine ?? open.machine, durationMs: at - open.startMs });
  }
}
