/**
 * Numbers from 0 on as the kernel keeps them and as a record has them: a bit for each, the lowest number in the
 * lowest bit of the first byte, in base64 and without what is empty at the end. Pure.
 */
export type NumberSet = string;

export function numberSet(bits: Uint8Array): NumberSet {
  const last = bits.findLastIndex((byte) => byte !== 0);
  return Buffer.from(bits.subarray(0, last + 1)).toString('base64');
}

export function numbersOf(set: NumberSet): readonly number[] {
  return [...Buffer.from(set, 'base64')].flatMap((byte, at) =>
    [0, 1, 2, 3, 4, 5, 6, 7].filter((bit) => (byte & (1 << bit)) !== 0).map((bit) => at * 8 + bit),
  );
}

/** How many they are. */
export function sizeOf(set: NumberSet): number {
  let size = 0;
  for (const byte of Buffer.from(set, 'base64')) {
    for (let rest = byte; rest !== 0; rest &= rest - 1) size += 1;
  }
  return size;
}

export function hasNumber(set: NumberSet, number: number): boolean {
  // Four characters have three bytes.
  const byte = number >> 3;
  const four = Math.floor(byte / 3);
  const bytes = Buffer.from(set.slice(four * 4, four * 4 + 4), 'base64');
  return ((bytes[byte - four * 3] ?? 0) & (1 << (number & 7))) !== 0;
}
