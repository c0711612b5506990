import { relative } from 'node:path';

/** Test files in the order in which they shall run, as JSON. */
export const FILE_ORDER_ENV = 'FUSEGATE_FILE_ORDER';

/** For AVA's `sortTestFiles`: files that nobody has put in an order come last, by name. */
export function fileOrder(
  json = process.env[FILE_ORDER_ENV] ?? '[]',
  projectDir = process.cwd(),
): (a: string, b: string) => number {
  const wanted = JSON.parse(json) as readonly string[];
  const places = new Map(wanted.map((file, place) => [file, place]));
  const placeOf = (file: string): number => places.get(relative(projectDir, file)) ?? wanted.length;
  return (a, b) => placeOf(a) - placeOf(b) || (a < b ? -1 : 1);
}
