import type { LogQuery, LogState, ReplyRecord, RequestRecord } from '../../protocol/requests.ts';
import { matches } from './rules.ts';

type OpenRecord = Omit<RequestRecord, 'held' | 'reply'> & { held: boolean; reply: ReplyRecord | null };

/** Path of the named child is kept beside the record: queries by path mean it where there is one. */
interface Entry {
  readonly record: OpenRecord;
  readonly childPath: string | null;
}

interface Waiter {
  readonly query: LogQuery;
  readonly state: LogState;
  readonly found: (record: RequestRecord) => void;
}

/** Every request in the order of arrival, and whoever waits for one. */
export class RequestLog {
  readonly #entries: Entry[] = [];
  #waiters: Waiter[] = [];

  get lastSeq(): number {
    return this.#entries.length;
  }

  /** `seq` counts from 1. */
  add(record: Omit<RequestRecord, 'seq' | 'held' | 'reply'>, childPath: string | null): number {
    const seq = this.#entries.length + 1;
    const entry = { record: { ...record, seq, held: false, reply: null }, childPath };
    this.#entries.push(entry);
    this.#tell(entry);
    return seq;
  }

  markHeld(seq: number): void {
    this.#change(seq, (record) => (record.held = true));
  }

  markAnswered(seq: number, reply: ReplyRecord): void {
    this.#change(seq, (record) => {
      record.held = false;
      record.reply = reply;
    });
  }

  find(query: LogQuery): RequestRecord[] {
    return this.#entries.filter((entry) => agrees(query, entry)).map(({ record }) => record);
  }

  /** The first request that agrees and has come so far; also one that is there already. */
  wait(query: LogQuery, state: LogState): Promise<RequestRecord> {
    const there = this.#entries.find((entry) => agrees(query, entry) && hasReached(entry, state));
    if (there !== undefined) return Promise.resolve(there.record);
    const { promise, resolve } = Promise.withResolvers<RequestRecord>();
    this.#waiters.push({ query, state, found: resolve });
    return promise;
  }

  #change(seq: number, change: (record: OpenRecord) => void): void {
    const entry = this.#entries[seq - 1];
    if (entry === undefined) return;
    change(entry.record);
    this.#tell(entry);
  }

  #tell(entry: Entry): void {
    this.#waiters = this.#waiters.filter((waiter) => {
      if (!agrees(waiter.query, entry) || !hasReached(entry, waiter.state)) return true;
      waiter.found(entry.record);
      return false;
    });
  }
}

function agrees(query: LogQuery, { record, childPath }: Entry): boolean {
  return record.seq > (query.after ?? 0) && matches(query, { ...record, childPath });
}

function hasReached({ record }: Entry, state: LogState): boolean {
  switch (state) {
    case 'arrived':
      return true;
    case 'held':
      return record.held;
    case 'answered':
      return record.reply !== null;
  }
}
