import { readFile } from 'node:fs/promises';
import { z } from 'zod';
import { Failure } from '#runner/lib/failure.ts';
import { parseData } from '#runner/lib/json.ts';

const row = z.strictObject({
  /** A letter of an area and a number: `A5`. Bugs of the past have two digits: `K05`. */
  id: z.string().regex(/^(?:[A-I][1-9][0-9]?|K[0-9]{2})$/u, 'an area and a number, as A5 or K05'),
  what: z.string().min(1),
  /** Tests whose titles do not name the row. A final `*` stands for anything. */
  tests: z.array(z.string().min(1)).optional(),
  /** Why no test covers it. */
  reason: z.string().min(1).optional(),
});
export type Row = z.infer<typeof row>;

const behaviours = z.strictObject({
  /** Letter → heading, in the order of the page. */
  areas: z.record(z.string().length(1), z.string().min(1)),
  rows: z.array(row),
});
export type Behaviours = z.infer<typeof behaviours>;

/**
 * Reads suites/behaviours.json.
 * @throws Failure E_CONFIG_INVALID (user) naming the row and the field.
 */
export async function loadBehaviours(path: string): Promise<Behaviours> {
  return parseData(behaviours, await readFile(path, 'utf8'), (why) => invalid(path, why));
}

function invalid(path: string, why: string): Failure {
  return new Failure('E_CONFIG_INVALID', 'user', `${path} is not a list of behaviours: ${why}`, {
    hint: 'each row needs id and what, and may have tests or a reason why there are none',
  });
}
