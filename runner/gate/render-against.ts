import type { GateResult } from './gate-schema.ts';
import { shown } from './said.ts';
import { wrap } from './wrap.ts';

export type Against = NonNullable<GateResult['against']>;

/** `v12 in place of v11`, and which of its patches are the same. Pure. */
export function describeDifference(against: Against): readonly string[] {
  const { name, newCount, same, changed, added, dropped } = against;
  if (same.length === newCount && dropped.length === 0) return [`all patches are those of ${shown(name)}`];
  return [
    ...(same.length === 0 ? [] : [`${listed(same)} as in ${shown(name)}`]),
    ...(changed.length === 0 ? [] : [`${listed(changed)} changed since`]),
    ...(added.length === 0 ? [] : [`${listed(added)} new`]),
    ...(dropped.length === 0 ? [] : [`dropped: ${dropped.map(shown).join('; ')}`]),
  ];
}

/** The lines below the headline when two versions are compared. Pure. */
export function renderAgainst(gate: GateResult, against: Against, machine: string): readonly string[] {
  const { count, newCount, name } = against;
  return [
    ...wrap(
      `the whole of ${shown(gate.series.name)} (${patches(newCount)}) in place of the whole of ${shown(name)} (${patches(count)}), on ${shown(gate.base)}${machine}`,
      '',
      '  ',
    ),
    ...describeDifference(against).flatMap((line) => wrap(line, '  ', '    ')),
  ];
}

function listed(numbers: readonly number[]): string {
  return `${numbers.length === 1 ? 'patch' : 'patches'} ${runs(numbers).join(', ')}`;
}

/** 1, 2, 3, 5 → `1-3`, `5`. */
function runs(numbers: readonly number[]): readonly string[] {
  const found: { first: number; last: number }[] = [];
  for (const number of numbers) {
    const last = found.at(-1);
    if (last !== undefined && number === last.last + 1) last.last = number;
    else found.push({ first: number, last: number });
  }
  return found.flatMap(({ first, last }) =>
    first === last
      ? [String(first)]
      : last === first + 1
        ? [String(first), String(last)]
        : [`${first}-${last}`],
  );
}

function patches(count: number): string {
  return count === 1 ? '1 patch' : `${count} patches`;
}
