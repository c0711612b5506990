/** What a number of rounds came to. */
export interface Spread {
  readonly rounds: number;
  readonly min: number;
  readonly median: number;
  readonly max: number;
}

/** `undefined` for no samples: a figure that was not measured is not zero. */
export function spreadOf(samples: readonly number[]): Spread | undefined {
  const sorted = samples.toSorted((a, b) => a - b);
  const [min] = sorted;
  const max = sorted.at(-1);
  if (min === undefined || max === undefined) return undefined;
  return { rounds: sorted.length, min, median: middle(sorted), max };
}

/**
 * Round by round one side over the other. The two halves of a round follow each other, so what else the machine
 * does weighs on both and mostly cancels, which it does not in a quotient of two medians.
 */
export function pairedRatios(numerators: readonly number[], denominators: readonly number[]): number[] {
  const ratios: number[] = [];
  for (const [round, numerator] of numerators.entries()) {
    const denominator = denominators[round];
    if (denominator !== undefined && denominator > 0) ratios.push(numerator / denominator);
  }
  return ratios;
}

function middle(sorted: readonly number[]): number {
  const half = Math.floor(sorted.length / 2);
  const upper = sorted[half] ?? Number.NaN;
  return sorted.length % 2 === 1 ? upper : ((sorted[half - 1] ?? Number.NaN) + upper) / 2;
}
