import { constants } from 'node:fs';

/** Flags that Linux adds to every open by a 64-bit program, and says nothing about. */
const O_LARGEFILE = 0o100000;

/** O_SYNC includes the bit of O_DSYNC: the larger one stands first. */
const NAMES = [
  'O_WRONLY',
  'O_RDWR',
  'O_CREAT',
  'O_EXCL',
  'O_NOCTTY',
  'O_TRUNC',
  'O_APPEND',
  'O_NONBLOCK',
  'O_SYNC',
  'O_DSYNC',
  'O_DIRECT',
  'O_DIRECTORY',
  'O_NOFOLLOW',
  'O_NOATIME',
] as const;

/** The flags of an OPEN, READ or WRITE request in words: `O_RDWR|O_APPEND`. */
export function openFlagNames(bits: unknown): string {
  let left = Number(bits) & ~O_LARGEFILE;
  const names: string[] = [];
  for (const name of NAMES) {
    const bit = constants[name];
    if ((left & bit) !== bit) continue;
    left &= ~bit;
    names.push(name);
  }
  if ((Number(bits) & (constants.O_WRONLY | constants.O_RDWR)) === 0) names.unshift('O_RDONLY');
  if (left !== 0) names.push(`0o${left.toString(8)}`);
  return names.join('|');
}
