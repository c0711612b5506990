/** As much of it as is used here; @types/node has no values of that name. */
declare const WebAssembly: {
  readonly Module: new (bytes: Uint8Array) => object;
  readonly Instance: new (module: object) => { readonly exports: { readonly f: Loop } };
};
type Loop = (state: number, rounds: number) => number;

const ROUNDS = 200_000;
const RUNS = 5;

/** `f(state, rounds)`: a linear congruential generator, whose every step needs the one before. */
const LOOP = moduleOf([
  ...[0x03, 0x40], // loop
  ...[0x20, 0, 0x41, ...signed(1_103_515_245), 0x6c], // state * 1103515245
  ...[0x41, ...signed(12_345), 0x6a, 0x21, 0], // state = … + 12345
  ...[0x20, 1, 0x41, ...signed(-1), 0x6a, 0x22, 1], // rounds -= 1
  ...[0x0d, 0, 0x0b], // until that is 0
  ...[0x20, 0],
]);

/**
 * Milliseconds for a fixed amount of arithmetic: the best of five.
 *
 * In WebAssembly, which V8 translates in one pass: an emulated machine that has just booted needs ten times
 * longer to optimise the same loop in JavaScript than to run it.
 */
export function calibrate(): number {
  const { f } = new WebAssembly.Instance(new WebAssembly.Module(LOOP)).exports;
  return Math.min(...Array.from({ length: RUNS }, (_, seed) => once(f, seed)));
}

function once(loop: Loop, seed: number): number {
  const startedAt = performance.now();
  loop(seed, ROUNDS);
  return performance.now() - startedAt;
}

/** A module with one exported function `f(i32, i32) -> i32` (WebAssembly Core Specification, 5.5). */
function moduleOf(code: readonly number[]): Uint8Array {
  const body = [0, ...code, 0x0b];
  return Uint8Array.from([
    ...[0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
    ...section(1, [1, 0x60, 2, 0x7f, 0x7f, 1, 0x7f]),
    ...section(3, [1, 0]),
    ...section(7, [1, 1, 0x66, 0, 0]),
    ...section(10, [1, body.length, ...body]),
  ]);
}

/** For sections of less than 128 bytes. */
function section(id: number, content: readonly number[]): readonly number[] {
  return [id, content.length, ...content];
}

/** Signed LEB128 of a number of 32 bits. */
function signed(value: number): readonly number[] {
  const bytes: number[] = [];
  for (let rest = value; ;) {
    const low = rest & 0x7f;
    rest >>= 7;
    if ((rest === 0 && low < 0x40) || (rest === -1 && low >= 0x40)) return [...bytes, low];
    bytes.push(low | 0x80);
  }
}
