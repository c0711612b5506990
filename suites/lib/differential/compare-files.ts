import type { Client } from '../client.ts';
import { compare, type Fresh, type Report } from './compare.ts';
import { admissible } from './file-model.ts';
import { inWords, type Operation } from './operation.ts';
import { perform, type Place, type Sequence } from './perform.ts';

export interface NamedPlace extends Place {
  readonly name: string;
}

export type FreshPlaces = Fresh<NamedPlace>;

/** @returns undefined where both places agree, else what a person needs to see and repeat it. */
export function compareSequence(
  client: Client,
  places: FreshPlaces,
  { maps, ...sequence }: Sequence & { readonly seed: number; readonly tries?: number },
): Promise<Report<Operation> | undefined> {
  const trial = {
    perform: (place: NamedPlace, operations: readonly Operation[]) => {
      return perform(client, place, { operations, maps });
    },
    isAdmissible: (operations: readonly Operation[]) => {
      return admissible(operations).length === operations.length;
    },
    inWords,
    simpler,
  };
  return compare(trial, places, sequence);
}

/** Smaller numbers, the smallest first. */
export function simpler(operation: Operation): Operation[] {
  const versions: Operation[] = [];
  if ('offset' in operation && operation.offset > 0) versions.push({ ...operation, offset: 0 });
  if ('length' in operation && operation.length > 1) versions.push({ ...operation, length: 1 });
  return versions;
}
