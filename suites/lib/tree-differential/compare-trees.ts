import type { Client } from '../client.ts';
import { compare, type Comparison, type Fresh, type Report } from '../differential/compare.ts';
import { inWords, type TreeOperation } from './operation.ts';
import { perform, type TreePlace } from './perform.ts';
import { admissible, type Limits } from './tree-model.ts';

export type FreshTrees = Fresh<TreePlace>;

/** @returns undefined where both trees agree all the way, else what a person needs to see and repeat it. */
export function compareTrees(
  client: Client,
  places: FreshTrees,
  {
    limits,
    lookEvery,
    ...comparison
  }: Comparison<TreeOperation> & { readonly limits: Limits; readonly lookEvery: number },
): Promise<Report<TreeOperation> | undefined> {
  const trial = {
    perform: (place: TreePlace, operations: readonly TreeOperation[]) => {
      return perform(client, place, { operations, lookEvery });
    },
    isAdmissible: (operations: readonly TreeOperation[]) => {
      return admissible(operations, limits).length === operations.length;
    },
    inWords,
  };
  return compare(trial, places, comparison);
}
