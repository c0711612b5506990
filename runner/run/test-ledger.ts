import type { Emit } from '#runner/lib/events.ts';
import type { AvaEvent } from '#runner/ava/ava-event.ts';
import { fileId, testId } from '#runner/ava/test-id.ts';
import type { KnownFailure } from '#runner/verdict/known-failures.ts';
import { applyKnownFailure } from '#runner/verdict/known-failures.ts';
import type { LeaseOutcome, TestStatement } from '#runner/verdict/judge-test.ts';
import { judgeTest } from '#runner/verdict/judge-test.ts';
import { joinLeases } from './join-leases.ts';

export interface LedgerOptions {
  readonly suitesDir: string;
  /** What is known of this kernel. */
  readonly known: readonly KnownFailure[];
  /** ISO date. */
  readonly today: string;
  readonly emit: Emit;
}

interface Entry {
  readonly id: string;
  readonly area: string;
  readonly title: string;
  readonly file: string;
  statement: TestStatement | undefined;
  told: boolean;
}

/** Kept apart from the entries: the first lease may be granted before AVA's word of the test has arrived. */
interface Leased {
  open: number;
  outcome: LeaseOutcome | undefined;
}

/**
 * Every test that was selected, from selection to its one `test-finished`. Two witnesses speak about a test,
 * AVA and the lease broker, in no fixed order; a test is told as finished when both have spoken.
 */
export class TestLedger {
  readonly #options: LedgerOptions;
  readonly #entries = new Map<string, Entry>();
  readonly #leased = new Map<string, Leased>();
  /** The last thing that went wrong in a file outside of its tests. */
  readonly #fileErrors = new Map<string, string>();
  /** Files that AVA killed for their silence. */
  #timedOutMs: number | undefined;

  constructor(options: LedgerOptions) {
    this.#options = options;
  }

  get size(): number {
    return this.#entries.size;
  }

  readonly onAva = (event: AvaEvent): void => {
    switch (event.type) {
      case 'file-started':
        this.#options.emit({ type: 'file-started', file: fileId(this.#options.suitesDir, event.file) });
        return;
      case 'selected':
        this.#select(event);
        return;
      case 'passed':
        this.#state(event, { outcome: 'passed', durationMs: event.durationMs, message: null });
        return;
      case 'failed':
        this.#state(event, { outcome: 'failed', durationMs: event.durationMs, message: event.message });
        return;
      case 'file-error':
        this.#fileErrors.set(event.file, event.message);
        return;
      case 'file-finished':
        this.#options.emit({ type: 'file-finished', file: fileId(this.#options.suitesDir, event.file) });
        this.#fileFinished(event);
        return;
      case 'timeout':
        this.#timedOutMs = event.periodMs;
        return;
      default:
    }
  };

  readonly onLeaseGranted = (id: string, machine: string): void => {
    this.#options.emit({ type: 'test-started', id, machine });
    const leased = this.#leased.get(id) ?? { open: 0, outcome: undefined };
    leased.open += 1;
    this.#leased.set(id, leased);
  };

  readonly onLeaseSettled = (id: string, outcome: LeaseOutcome): void => {
    const leased = this.#leased.get(id);
    if (leased === undefined) return;
    leased.open -= 1;
    leased.outcome = joinLeases(leased.outcome, outcome);
    const entry = this.#entries.get(id);
    if (entry !== undefined) this.#tell(entry);
  };

  /** Selected tests of which AVA has said nothing, in order of selection. */
  remaining(): readonly { readonly file: string; readonly title: string; readonly id: string }[] {
    return [...this.#entries.values()].filter((entry) => entry.statement === undefined);
  }

  /** The run is over: what never ran is said to have not run. */
  close(reason: string): void {
    for (const entry of this.#entries.values()) {
      entry.statement ??= { outcome: 'not-run', durationMs: 0, message: reason };
      this.#tell(entry, true);
    }
  }

  #select({ file, title, declared }: AvaEvent & { type: 'selected' }): void {
    const named = testId(this.#options.suitesDir, file, title);
    if (this.#entries.has(named.id)) return;
    const entry: Entry = { ...named, file, statement: undefined, told: false };
    this.#entries.set(named.id, entry);
    if (declared === 'run') return;
    const message =
      declared === 'todo' ? 'not written yet (test.todo)' : 'switched off in its file (test.skip)';
    entry.statement = { outcome: 'skipped', durationMs: 0, message };
    this.#tell(entry);
  }

  #state({ file, title }: { file: string; title: string }, statement: TestStatement): void {
    const entry = this.#entries.get(testId(this.#options.suitesDir, file, title).id);
    if (entry === undefined || entry.statement !== undefined) return;
    entry.statement = statement;
    this.#tell(entry);
  }

  /** A test process that died takes the test it was running along; the others may run in a second pass. */
  #fileFinished({ file, how, fromOutside }: AvaEvent & { type: 'file-finished' }): void {
    const error = this.#fileErrors.get(file);
    const entries = [...this.#entries.values()].filter((entry) => entry.file === file);
    const running = entries.find((entry) => entry.statement === undefined);
    const killed = fromOutside && error === undefined;
    const died = `the test process ${how ?? 'ended'}`;
    if (running === undefined) {
      const early = entries.length === 0 && how !== null ? `${died} before any test` : undefined;
      this.#fileFailed(file, killed ? 'not-run' : 'failed', error ?? early);
    } else if (killed) {
      // One that had no machine yet has not begun: it gets its turn with the others.
      if (!this.#leased.has(running.id)) return;
      this.#state(running, { outcome: 'not-run', durationMs: 0, message: `${died} from outside` });
    } else {
      this.#state(running, this.#cutShort(how, error ?? `${died} before the test did`));
    }
  }

  #cutShort(how: string | null, message: string): TestStatement {
    const silentMs = how === 'was killed by AVA' ? this.#timedOutMs : undefined;
    if (silentMs === undefined) return { outcome: 'failed', durationMs: 0, message };
    const seconds = Math.round(silentMs / 1000);
    return {
      outcome: 'timed-out',
      durationMs: silentMs,
      message: `no answer for ${seconds} s: the test process was killed`,
    };
  }

  /** A file that could not be loaded has no test to blame, and must not be lost. */
  #fileFailed(file: string, outcome: 'failed' | 'not-run', message: string | undefined): void {
    if (message === undefined) return;
    const title = 'the test file runs';
    this.#select({ type: 'selected', file, title, declared: 'run' });
    this.#state({ file, title }, { outcome, durationMs: 0, message });
  }

  #tell(entry: Entry, evenIfLeased = false): void {
    const { statement } = entry;
    const leased = this.#leased.get(entry.id);
    if (statement === undefined || entry.told) return;
    if (leased !== undefined && leased.open > 0 && !evenIfLeased) return;
    entry.told = true;
    const lease = leased?.outcome;
    const { known, today, emit } = this.#options;
    const judged = judgeTest(statement, lease);
    const { outcome, message } = applyKnownFailure(
      judged,
      known.find(({ id }) => id === entry.id),
      today,
    );
    emit({
      type: 'test-finished',
      id: entry.id,
      area: entry.area,
      title: entry.title,
      outcome,
      message,
      durationMs: Math.round(lease?.durationMs ?? statement.durationMs),
      evidence: lease?.evidence ?? [],
    });
  }
}
