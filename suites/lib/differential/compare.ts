import { shrink } from './shrink.ts';

/** What each step gave, in an order that is the same everywhere. */
export interface Observation {
  /** -1: before the first operation. */
  readonly step: number;
  readonly call: string;
  /** Of several lines those are shown that the other place has not. */
  readonly outcome: string;
}

export interface Difference {
  readonly step: number;
  readonly text: string;
}

/** How one kind of sequence is done and told. */
export interface Trial<Operation, Place> {
  /** On something that nobody has used. */
  readonly perform: (place: Place, operations: readonly Operation[]) => Promise<readonly Observation[]>;
  /** As a person would type it. */
  readonly inWords: (operation: Operation) => string;
  /** Whether both places should agree, where a step has been left out as well. */
  readonly isAdmissible: (operations: readonly Operation[]) => boolean;
  /** Simpler versions of an operation, the simplest first. */
  readonly simpler?: ((operation: Operation) => readonly Operation[]) | undefined;
}

/** Gives a pair of places that nobody has used: every try is done on new files. */
export type Fresh<Place> = (round: number) => readonly [Place, Place];

export interface Comparison<Operation> {
  readonly operations: readonly Operation[];
  /** Where the operations come from. */
  readonly seed: number;
  /** How often a failing sequence is tried in shorter versions. Each costs what the first comparison did, or less. */
  readonly tries?: number | undefined;
}

const SHRINK_TRIES = 80;

export interface Report<Operation> {
  readonly operations: readonly Operation[];
  readonly text: string;
}

/** @returns undefined where both places agree, else what a person needs to see and repeat it. */
export async function compare<Operation, Place extends { readonly name: string }>(
  { perform, inWords, isAdmissible, simpler }: Trial<Operation, Place>,
  places: Fresh<Place>,
  { operations, seed, tries = SHRINK_TRIES }: Comparison<Operation>,
): Promise<Report<Operation> | undefined> {
  let round = 0;
  const differenceOf = async (tried: readonly Operation[]): Promise<Difference | undefined> => {
    const [one, other] = places(round++);
    const outcomes = [await perform(one, tried), await perform(other, tried)] as const;
    return firstDifferent([one.name, other.name], outcomes, tried.map(inWords));
  };
  const first = await differenceOf(operations);
  if (first === undefined) return undefined;
  const shrunk = await shrink(operations.slice(0, first.step + 1), {
    fails: async (tried) => isAdmissible(tried) && (await differenceOf(tried)) !== undefined,
    simpler,
    tries,
  });
  const last = (await differenceOf(shrunk)) ?? first;
  return { operations: shrunk, text: report(seed, shrunk.map(inWords), last) };
}

/** The first call that did not give the same in both places. */
export function firstDifferent(
  names: readonly [string, string],
  outcomes: readonly [readonly Observation[], readonly Observation[]],
  operations: readonly string[],
): Difference | undefined {
  const [one, other] = outcomes;
  const index = one.findIndex((each, at) => each.outcome !== other[at]?.outcome);
  const first = one[index];
  if (first === undefined) return undefined;
  const { step, call } = first;
  const operation = operations[Math.min(step, operations.length - 1)];
  const after = operation === undefined ? 'at the start' : `at or after step ${step + 1} (${operation})`;
  const [here, there] = apart(first.outcome, other[index]?.outcome ?? 'nothing');
  return { step, text: `${call} ${after} gave ${names[0]}: ${here}; ${names[1]}: ${there}` };
}

function apart(one: string, other: string): [string, string] {
  const [lines, others] = [one.split('\n'), other.split('\n')];
  const only = (here: readonly string[], there: readonly string[]): string => {
    const own = here.filter((line) => !there.includes(line));
    return own.length === 0 ? 'nothing more' : own.join(' | ');
  };
  return [only(lines, others), only(others, lines)];
}

function report(seed: number, operations: readonly string[], difference: Difference): string {
  return [
    difference.text,
    `seed ${seed}, shrunk to:`,
    ...operations.map((operation, index) => `  ${index + 1}. ${operation}`),
  ].join('\n');
}
