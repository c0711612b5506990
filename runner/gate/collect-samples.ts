import type { EventSink } from '#runner/lib/events.ts';
import type { Failure } from '#runner/lib/failure.ts';
import type { Sample, SampleFault, Seen } from './sample.ts';
import { BOOT } from './sample.ts';

/** Makes samples of the events of a run; a test that ran several times gives several. */
export class SampleCollector {
  readonly #samples: Sample[] = [];
  /** Complaints by test, until the test is told as finished. */
  readonly #faults = new Map<string, SampleFault[]>();
  #booted = false;
  /** Machines by how they came to run: restored from a saved one, or booted. */
  readonly #starts = new Set<'restored' | 'booted'>();

  readonly sink: EventSink = (event) => {
    switch (event.type) {
      case 'machine-booting':
        this.#starts.add(event.restored === true ? 'restored' : 'booted');
        return;
      case 'machine-ready':
        this.#booted = true;
        return;
      case 'kernel-fault': {
        const { kind, title, fingerprint } = event;
        const key = event.test ?? BOOT;
        this.#faults.set(key, [...(this.#faults.get(key) ?? []), { kind, title, fingerprint }]);
        return;
      }
      case 'test-finished': {
        const { id, outcome, message, durationMs, evidence } = event;
        if (outcome === 'known-failure') return;
        const seen: Seen = SEEN[outcome];
        this.#add({ test: id, seen, outcome, message, durationMs, evidence: [...evidence] });
        return;
      }
      default:
    }
  };

  /** `failure`: what the run ended with, if it did not come to its end. */
  end(failure: Failure | undefined): readonly Sample[] {
    const message = failure?.message ?? null;
    const evidence = failure === undefined ? [] : [...failure.evidence];
    const boot = { test: BOOT, durationMs: 0 } as const;
    if (this.#booted) {
      this.#add({
        ...boot,
        seen: 'pass',
        outcome: 'passed',
        message: null,
        evidence: [],
        copy: this.#onlyCopies(),
      });
    } else if (failure?.blame === 'kernel') {
      this.#add({ ...boot, seen: 'fail', outcome: 'crashed', message, evidence });
    } else {
      this.#add({ ...boot, seen: 'lost', outcome: 'not-run', message, evidence });
    }
    return this.#samples;
  }

  #onlyCopies(): boolean {
    return this.#starts.has('restored') && !this.#starts.has('booted');
  }

  #add(sample: Omit<Sample, 'faults'>): void {
    this.#samples.push({ ...sample, faults: this.#faults.get(sample.test) ?? [] });
    this.#faults.delete(sample.test);
  }
}

const SEEN = {
  passed: 'pass',
  failed: 'fail',
  crashed: 'fail',
  'timed-out': 'fail',
  skipped: 'skip',
  'not-run': 'lost',
} as const;
