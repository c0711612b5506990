import type { Confirmation } from './confirm.ts';
import { confirm } from './confirm.ts';
import type { Observations, Subject } from './observations.ts';
import type { Counts } from './odds.ts';
import { add } from './odds.ts';
import { lastBooting, witnesses } from './plan.ts';
import type { Transition } from './transitions.ts';
import { isListed, transitionsOf } from './transitions.ts';

export type VerdictKind =
  | 'regressed'
  | 'fixed'
  | 'pre-existing'
  | 'known-failure'
  | 'flaky'
  | 'infra'
  | 'skipped'
  | 'not-run'
  | 'passed';

/** What the gate says about one test, or one complaint of the kernel, along the whole series. */
export interface Verdict {
  readonly subject: Subject;
  readonly kind: VerdictKind;
  /** For `regressed` and `fixed`: the stop before the change and the one after it. */
  readonly change: { readonly from: number; readonly to: number } | null;
  /** The stop from which on a regression is gone again. */
  readonly mendedAt: number | null;
  readonly base: Counts;
  readonly patched: Counts;
  /** That the blame is false; `null` where there is nothing to compare with. */
  readonly odds: number | null;
  /** The evidence suffices; a verdict that needs none is always confirmed. */
  readonly confirmed: boolean;
}

export interface JudgeInput {
  readonly stops: number;
  readonly seen: Observations;
  /** Tests that are listed as failing. */
  readonly known: ReadonlySet<string>;
}

/** One verdict per test and complaint. Pure. */
export function judge({ stops, seen, known }: JudgeInput): readonly Verdict[] {
  const subjects = seen.subjects();
  const transitions = new Map(
    subjects.map((subject) => [
      subject.id,
      transitionsOf(subject, seen, stops).filter((transition) => !isListed(transition, known)),
    ]),
  );
  const convicted = new Map<string, Confirmation>();
  const all = [...transitions.values()].flat();
  for (const transition of witnesses(all)) {
    convicted.set(keyOf(transition), confirm(transition, seen));
  }
  const proven = new Set(
    all
      .filter((transition) => convicted.get(keyOf(transition))?.state === 'confirmed')
      .map(({ from, to, kind }) => `${from} ${to} ${kind}`),
  );
  return subjects.map((subject) =>
    judgeSubject(subject, transitions.get(subject.id) ?? [], { stops, seen, known, convicted, proven }),
  );
}

interface Court extends JudgeInput {
  readonly convicted: ReadonlyMap<string, Confirmation>;
  /** Changes that enough tests have proved. */
  readonly proven: ReadonlySet<string>;
}

function judgeSubject(subject: Subject, changes: readonly Transition[], court: Court): Verdict {
  const { seen, stops } = court;
  const base = seen.counts(0, subject);
  const patched = sum(subject, seen, 1, stops);
  const plain = (kind: VerdictKind): Verdict => ({
    ...{ subject, kind, change: null, mendedAt: null, base, patched, odds: null, confirmed: true },
  });
  if (seen.isMixed(0, subject)) return plain('flaky');
  const change = changes.find(({ kind }) => kind === 'regression') ?? changes.at(-1);
  if (change !== undefined) return judgeChange(change, changes, court);
  return plain(withoutChange(subject, court));
}

function judgeChange(change: Transition, changes: readonly Transition[], court: Court): Verdict {
  const { seen, stops, convicted, proven } = court;
  const { subject, from, to, kind } = change;
  const mended = changes.find((other) => other.kind === 'fix' && other.from >= to);
  const found = convicted.get(keyOf(change));
  const withOthers = proven.has(`${from} ${to} ${kind}`);
  const refuted = found?.state === 'refuted';
  const base = sum(subject, seen, 0, from + 1);
  const patched = sum(subject, seen, to, mended?.to ?? stops);
  return {
    subject,
    kind: refuted ? 'flaky' : kind === 'regression' ? 'regressed' : 'fixed',
    change: refuted ? null : { from, to },
    mendedAt: kind === 'regression' ? (mended?.to ?? null) : null,
    base,
    patched,
    odds: found?.odds ?? null,
    confirmed: refuted || found?.state === 'confirmed' || (found === undefined && withOthers),
  };
}

function withoutChange(subject: Subject, { seen, stops, known }: Court): VerdictKind {
  const last = seen.isFull(stops - 1) ? Math.max(lastBooting(seen, stops), 0) : stops - 1;
  const tip = seen.state(last, subject);
  const base = seen.state(0, subject);
  if (tip === 'unknown') return seen.lost(last, subject.test) > 0 ? 'infra' : 'not-run';
  if (base === 'unknown' && seen.lost(0, subject.test) > 0) return 'infra';
  // Nobody asked the base: it has no passthrough, or the time was over.
  if (base === 'unknown' && tip === 'bad') return 'not-run';
  if (tip === 'bad') return known.has(subject.test) ? 'known-failure' : 'pre-existing';
  return tip === 'absent' ? 'skipped' : 'passed';
}

function sum(subject: Subject, seen: Observations, from: number, to: number): Counts {
  let total: Counts = { passes: 0, runs: 0 };
  for (let stop = from; stop < to; stop += 1) {
    if (seen.state(stop, subject) !== 'absent') total = add(total, seen.counts(stop, subject));
  }
  return total;
}

function keyOf({ subject, from, to, kind }: Transition): string {
  return `${subject.id} ${from} ${to} ${kind}`;
}
