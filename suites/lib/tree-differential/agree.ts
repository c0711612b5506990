import type { ExecutionContext } from 'ava';
import type { Client } from '../client.ts';
import { compareTrees, type FreshTrees } from './compare-trees.ts';
import { generate } from './generate.ts';
import type { Limits } from './tree-model.ts';

/** The same sequences in every run; others with FUSEGATE_SEED. */
const SEED = Number(process.env['FUSEGATE_SEED'] ?? 20_210_119);
const OPERATIONS = 120;

export const AS_A_DIRECTORY: Limits = { movesDirectories: true, knowsRenameFlags: true, without: [] };

export interface Agreement {
  readonly places: FreshTrees;
  readonly limits: Limits;
  /** How many, each of 120 operations. Default 2. */
  readonly sequences?: number | undefined;
  /** How often all is mounted anew. Default 3. */
  readonly again?: number | undefined;
  /** After how many operations the whole tree is looked at. Default 10. */
  readonly lookEvery?: number | undefined;
}

/** Random sequences of changes to names; both places have to give the same all the way. */
export async function treesAgree(
  t: ExecutionContext,
  client: Client,
  { places, limits, sequences = 2, again = 3, lookEvery = 10 }: Agreement,
): Promise<void> {
  let round = 0;
  for (let seed = SEED; seed < SEED + sequences; seed++) {
    t.log(`FUSEGATE_SEED=${seed}`);
    const operations = generate({ seed, count: OPERATIONS, again, limits });
    const found = await compareTrees(client, () => places(round++), { operations, seed, limits, lookEvery });
    t.is(found?.text, undefined, found?.text);
  }
}
