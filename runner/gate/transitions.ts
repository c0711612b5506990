import type { Observations, State, Subject } from './observations.ts';

/** Two kernels that differ, with none between them that could still be asked. */
export interface Transition {
  readonly subject: Subject;
  /** The last stop before the change and the first one after it, as far as it is known. */
  readonly from: number;
  readonly to: number;
  readonly kind: 'regression' | 'fix';
  /** The earlier kernel has nothing to compare with. */
  readonly first: boolean;
}

/** The changes of one subject along the series, from what is known of it. Pure. */
export function transitionsOf(subject: Subject, seen: Observations, stops: number): readonly Transition[] {
  const found: Transition[] = [];
  let last: { readonly stop: number; readonly state: State } | undefined;
  for (let stop = 0; stop < stops; stop += 1) {
    const state = seen.state(stop, subject);
    if (state === 'unknown') continue;
    // A series that brings the feature patch by patch: until all of it is there its tests may fail, but the kernel
    // has no reason to complain.
    const partial = state === 'bad' && last?.state === 'absent' && !seen.complained(stop, subject.test);
    if (partial && turnsGood(subject, seen, stop, stops)) continue;
    const kind = last === undefined ? undefined : changeOf(last.state, state);
    if (last !== undefined && kind !== undefined) {
      found.push({ subject, from: last.stop, to: stop, kind, first: last.state === 'absent' });
    }
    last = { stop, state };
  }
  return found;
}

/** A later kernel that was asked is well. */
function turnsGood(subject: Subject, seen: Observations, stop: number, stops: number): boolean {
  for (let later = stop + 1; later < stops; later += 1) {
    if (seen.state(later, subject) === 'good') return true;
  }
  return false;
}

/** From nothing to good is what a series that brings the feature is for, and needs no search. */
function changeOf(before: State, after: State): Transition['kind'] | undefined {
  if (after === 'bad' && before !== 'bad') return 'regression';
  if (after === 'good' && before === 'bad') return 'fix';
  return undefined;
}

/**
 * Where there was nothing to compare with, what is listed as failing is no news: the list says what the kernel with
 * the whole feature gets wrong. Pure.
 */
export function isListed(
  { subject, kind, first }: Transition,
  known: ReadonlySet<string> | undefined,
): boolean {
  return kind === 'regression' && first && subject.fault === null && known?.has(subject.test) === true;
}
