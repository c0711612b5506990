import { createHash } from 'node:crypto';

/** sha256 over named parts; a part's length cannot be confused with its neighbour's contents. */
export function sha256OfParts(parts: Readonly<Record<string, string | readonly string[]>>): string {
  const sorted = Object.entries(parts).toSorted(([a], [b]) => (a < b ? -1 : 1));
  return createHash('sha256').update(JSON.stringify(sorted)).digest('hex');
}
