import type { Evidence, Failure } from './failure.ts';

/** The stages of a run in their order; each has one figure in the report's `timings`. */
export type Stage = 'source' | 'apply' | 'config' | 'build' | 'image' | 'boot' | 'deploy' | 'suites';

export type TestOutcome =
  'passed' | 'failed' | 'skipped' | 'crashed' | 'timed-out' | 'not-run' | 'known-failure';

/** What the guest's kernel complained about. */
export const FAULT_KINDS = [
  'panic',
  'oops',
  'bug',
  'warning',
  'kasan',
  'lockdep',
  'hung-task',
  'lockup',
  /** The guest began anew or switched itself off, and its kernel said nothing. */
  'reset',
  'rcu-stall',
  'leak',
  'no-boot',
] as const;
export type FaultKind = (typeof FAULT_KINDS)[number];

/**
 * Everything that happens in a run, past tense. The engine emits these and never prints; reporters and the
 * report are functions of them. `at` is added by the bus: milliseconds since the run began, monotonic.
 */
export type RunEvent =
  | {
      readonly type: 'run-started';
      readonly profile: string;
      readonly series: string | null;
      readonly out: string;
    }
  /** `cached`: the stage's result was there already and only checked. */
  | {
      readonly type: 'stage-started';
      readonly stage: Stage;
      readonly title: string;
      readonly log?: string | undefined;
    }
  | {
      readonly type: 'stage-progress';
      readonly stage: Stage;
      readonly done: number;
      /** Expected total, when known. */
      readonly total: number | undefined;
      readonly unit: string;
    }
  | {
      readonly type: 'stage-finished';
      readonly stage: Stage;
      readonly durationMs: number;
      readonly cached: boolean;
      readonly detail?: string | undefined;
    }
  | {
      readonly type: 'stage-failed';
      readonly stage: Stage;
      readonly durationMs: number;
      readonly failure: Failure;
    }
  | {
      readonly type: 'patch-applied';
      readonly index: number;
      readonly count: number;
      readonly subject: string;
    }
  | {
      readonly type: 'machine-booting';
      readonly machine: string;
      readonly accelerator: string;
      readonly console: string;
      /** It goes on from a saved state instead of booting. */
      readonly restored?: boolean | undefined;
    }
  | {
      readonly type: 'machine-ready';
      readonly machine: string;
      readonly bootMs: number;
      readonly deployMs: number;
    }
  | { readonly type: 'machine-lost'; readonly machine: string; readonly failure: Failure }
  | { readonly type: 'machine-stopped'; readonly machine: string }
  | { readonly type: 'suites-planned'; readonly files: readonly string[] }
  /** `file`: `area/file`. Its test process starts, and is gone. */
  | { readonly type: 'file-started' | 'file-finished'; readonly file: string }
  /** A test asks for a machine; `lease-ended`: the machine is cleaned, or gone. */
  | { readonly type: 'lease-requested'; readonly test: string }
  | { readonly type: 'lease-ended'; readonly test: string; readonly machine: string | null }
  | { readonly type: 'test-started'; readonly id: string; readonly machine: string }
  | {
      readonly type: 'test-finished';
      readonly id: string;
      readonly area: string;
      readonly title: string;
      readonly outcome: TestOutcome;
      readonly durationMs: number;
      readonly message: string | null;
      readonly evidence: readonly Evidence[];
    }
  | {
      readonly type: 'kernel-fault';
      readonly machine: string;
      readonly kind: FaultKind;
      readonly title: string;
      readonly fingerprint: string;
      readonly test: string | null;
      readonly evidence: readonly Evidence[];
    }
  /** Something worth a line that changes no verdict: a retry, a fallback, a sweep of a dead run. */
  | { readonly type: 'note'; readonly text: string };

export type TimedEvent = RunEvent & { readonly at: number };

/** Receives every event in order, synchronously. Must not throw; the bus isolates it if it does. */
export type EventSink = (event: TimedEvent) => void;

/** What the stages are handed: only a way to say what happened. */
export type Emit = (event: RunEvent) => void;

export class EventBus {
  readonly #sinks: EventSink[] = [];
  readonly #startedAt = performance.now();
  /** Errors thrown by sinks: reported at the end, never allowed to stop a run. */
  readonly sinkErrors: unknown[] = [];

  subscribe(sink: EventSink): void {
    this.#sinks.push(sink);
  }

  readonly emit: Emit = (event) => {
    const timed = { ...event, at: Math.round(performance.now() - this.#startedAt) };
    for (const sink of this.#sinks) {
      try {
        sink(timed);
      } catch (error) {
        this.sinkErrors.push(error);
      }
    }
  };
}
