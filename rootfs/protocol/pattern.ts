/** Data in which every position can be told from every other: no two pages are alike. */
export function pattern(length: number, seed = 1): Uint8Array {
  const data = new Uint8Array(length);
  let state = seed >>> 0 || 1;
  for (let at = 0; at < length; at++) {
    // xorshift32: reproducible without anything to install.
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    data[at] = state & 0xff;
  }
  return data;
}
