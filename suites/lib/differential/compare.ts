import type { Client } from '../client.ts';
import { admissible } from './file-model.ts';
import { inWords, type Operation } from './operation.ts';
import { perform, type Observation, type Place, type Sequence } from './perform.ts';
import { shrink } from './shrink.ts';

export interface NamedPlace extends Place {
  readonly name: string;
}

/** Gives a place that nobody has used: every try is done on new files. */
export type FreshPlaces = (round: number) => readonly [NamedPlace, NamedPlace];

export interface Difference {
  readonly step: number;
  readonly text: string;
}

/** The first call that did not give the same in both places. */
export function firstDifferent(
  names: readonly [string, string],
  outcomes: readonly [readonly Observation[], readonly Observation[]],
  operations: readonly Operation[],
): Difference | undefined {
  const [one, other] = outcomes;
  const index = one.findIndex((each, at) => each.outcome !== other[at]?.outcome);
  const first = one[index];
  if (first === undefined) return undefined;
  const { step, call } = first;
  const operation = operations[Math.min(step, operations.length - 1)];
  const after =
    operation === undefined ? 'at the start' : `at or after step ${step + 1} (${inWords(operation)})`;
  const seen = `${names[0]}: ${first.outcome}; ${names[1]}: ${other[index]?.outcome ?? 'nothing'}`;
  return { step, text: `${call} ${after} gave ${seen}` };
}

/** How often a failing sequence is tried in shorter versions. Each costs what the first comparison did, or less. */
const SHRINK_TRIES = 80;

/** @returns undefined where both places agree, else what a person needs to see and repeat it. */
export async function compareSequence(
  client: Client,
  places: FreshPlaces,
  { seed, tries = SHRINK_TRIES, ...sequence }: Sequence & { readonly seed: number; readonly tries?: number },
): Promise<Report | undefined> {
  let round = 0;
  const differenceOf = async (operations: readonly Operation[]): Promise<Difference | undefined> => {
    const [one, other] = places(round++);
    const done = { operations, maps: sequence.maps };
    const outcomes = [await perform(client, one, done), await perform(client, other, done)] as const;
    return firstDifferent([one.name, other.name], outcomes, operations);
  };
  const first = await differenceOf(sequence.operations);
  if (first === undefined) return undefined;
  const shrunk = await shrink(sequence.operations.slice(0, first.step + 1), {
    fails: async (operations) => {
      return isAdmissible(operations) && (await differenceOf(operations)) !== undefined;
    },
    simpler,
    tries,
  });
  const last = (await differenceOf(shrunk)) ?? first;
  return { operations: shrunk, text: report(seed, shrunk, last) };
}

export interface Report {
  readonly operations: readonly Operation[];
  readonly text: string;
}

function isAdmissible(operations: readonly Operation[]): boolean {
  return admissible(operations).length === operations.length;
}

/** Smaller numbers, the smallest first. */
export function simpler(operation: Operation): Operation[] {
  const versions: Operation[] = [];
  if ('offset' in operation && operation.offset > 0) versions.push({ ...operation, offset: 0 });
  if ('length' in operation && operation.length > 1) versions.push({ ...operation, length: 1 });
  return versions;
}

function report(seed: number, operations: readonly Operation[], difference: Difference): string {
  return [
    difference.text,
    `seed ${seed}, shrunk to:`,
    ...operations.map((operation, index) => `  ${index + 1}. ${inWords(operation)}`),
  ].join('\n');
}
