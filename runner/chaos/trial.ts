import { CHAOS_LABEL } from './arena.ts';
import type { Field } from './faults.ts';
import type { Tried } from './render.ts';

export interface Seen {
  readonly seen: string;
  readonly wrong: readonly string[];
}

/**
 * One trial, all of whose processes have a label of their own, by which what is left of it is found.
 * Never rejects: what breaks of the trial itself is wrong as well.
 */
export async function trial(
  { name, expected }: Pick<Tried, 'name' | 'expected'>,
  { arena }: Field,
  work: (label: string) => Promise<Seen>,
): Promise<Tried> {
  const label = `${process.pid}-${name}`;
  process.env[CHAOS_LABEL] = label;
  const { seen, wrong } = await work(label)
    .catch((error: unknown): Seen => {
      return { seen: 'nothing', wrong: [`the trial itself broke: ${String(error)}`] };
    })
    .finally(() => Reflect.deleteProperty(process.env, CHAOS_LABEL));
  const left = await arena.leftovers(label);
  return { name, expected, seen, wrong: [...wrong, ...left.map((what) => `left: ${what}`)] };
}
