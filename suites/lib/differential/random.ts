/** Uniform numbers that are the same for the same seed, everywhere (mulberry32). */
export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  /** 0 … limit - 1 */
  below(limit: number): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), this.#state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) % limit;
  }

  pick<T>(from: readonly T[]): T {
    const picked = from[this.below(from.length)];
    if (picked === undefined) throw new RangeError('there is nothing to pick from');
    return picked;
  }

  chance(of: number): boolean {
    return this.below(of) === 0;
  }

  /** What a draw of data writes. */
  seed(): number {
    return 1 + this.below(0x7fff_ffff);
  }
}

/** Each item so often as it weighs. */
export function weighted<T extends string>(weights: Readonly<Record<T, number>>): readonly T[] {
  return Object.entries<number>(weights).flatMap(([name, weight]) => Array<T>(weight).fill(name as T));
}
