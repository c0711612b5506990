import { Failure } from '#runner/lib/failure.ts';
import { formatAssignment, type Fragment } from './kconfig.ts';

/** A wish and who has it. */
export interface Wish {
  readonly value: string;
  /** The fragment's name. */
  readonly from: string;
  /** From a fragment of the user's own. */
  readonly own: boolean;
}

export type Wishes = ReadonlyMap<string, Wish>;

/**
 * One set of wishes from the profile's fragments and the user's, which override the profile's.
 *
 * @throws Failure E_CONFIG_CONFLICT (user) when two fragments of the same rank disagree, naming both.
 */
export function mergeFragments(profile: readonly Fragment[], own: readonly Fragment[]): Wishes {
  return new Map([...mergeRank(profile, false), ...mergeRank(own, true)]);
}

/** Symbols of the profile that the user's fragments set otherwise. */
export function overridden(profile: readonly Fragment[], own: readonly Fragment[]): readonly string[] {
  const before = mergeRank(profile, false);
  return [...mergeRank(own, true)]
    .filter(([symbol, wish]) => (before.get(symbol)?.value ?? wish.value) !== wish.value)
    .map(([symbol]) => symbol);
}

/** Sorted, so that equal wishes are equal text whatever file they come from. */
export function formatWishes(wishes: Wishes): string {
  const lines = [...wishes]
    .toSorted(([a], [b]) => (a < b ? -1 : 1))
    .map(([symbol, { value }]) => formatAssignment(symbol, value));
  return `${lines.join('\n')}\n`;
}

export interface Unmet {
  readonly symbol: string;
  readonly asked: string;
  /** `n` when the final configuration does not have it at all. */
  readonly got: string;
  readonly wish: Wish;
}

/** What the final .config does not have as asked. A symbol that is not there at all is `n`. */
export function unmetWishes(wishes: Wishes, final: Fragment): readonly Unmet[] {
  const values = new Map(final.assignments.map(({ symbol, value }) => [symbol, value]));
  return [...wishes]
    .map(([symbol, wish]) => ({ symbol, asked: wish.value, got: values.get(symbol) ?? 'n', wish }))
    .filter(({ asked, got }) => asked !== got);
}

function mergeRank(fragments: readonly Fragment[], own: boolean): ReadonlyMap<string, Wish> {
  const merged = new Map<string, Wish>();
  for (const { name, assignments } of fragments) {
    for (const { symbol, value } of assignments) {
      const before = merged.get(symbol);
      if (before !== undefined && before.value !== value)
        throw conflict(symbol, before, { value, from: name });
      if (before === undefined) merged.set(symbol, { value, from: name, own });
    }
  }
  return merged;
}

function conflict(symbol: string, a: Omit<Wish, 'own'>, b: Omit<Wish, 'own'>): Failure {
  return new Failure(
    'E_CONFIG_CONFLICT',
    'user',
    `config fragments disagree: ${a.from} has ${formatAssignment(symbol, a.value)}, ${b.from} has ${formatAssignment(symbol, b.value)}`,
    { hint: 'remove one of the two lines' },
  );
}
