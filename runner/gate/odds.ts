/** How often a test was run somewhere, and how often it passed. */
export interface Counts {
  readonly passes: number;
  readonly runs: number;
}

/** A blame is believed when the odds of its being false are below this. */
export const BELIEVED = 0.01;

/**
 * How often the counts are looked at while they grow. Each look is a chance to be fooled, so the odds of a
 * single one are multiplied by it (Bonferroni).
 */
export const LOOKS = 3;

/**
 * The chance that a test which passes equally often on both kernels shows at most `worse.passes` on one of them,
 * given how often it passed on both together: Fisher's exact test, one-sided. Pure.
 */
export function chanceOfSplit(better: Counts, worse: Counts): number {
  const runs = better.runs + worse.runs;
  const passes = better.passes + worse.passes;
  const least = Math.max(0, passes - better.runs);
  let chance = 0;
  for (let k = least; k <= worse.passes; k += 1) {
    chance += Math.exp(
      logChoose(worse.runs, k) + logChoose(better.runs, passes - k) - logChoose(runs, passes),
    );
  }
  return Math.min(1, chance);
}

/** The odds that blaming `worse` is false, with the looks that were taken on the way. Pure. */
export function falseBlame(better: Counts, worse: Counts): number {
  return Math.min(1, LOOKS * chanceOfSplit(better, worse));
}

export function add(a: Counts, b: Counts): Counts {
  return { passes: a.passes + b.passes, runs: a.runs + b.runs };
}

const logFactorials: number[] = [0];

function logFactorial(n: number): number {
  for (let i = logFactorials.length; i <= n; i += 1) {
    logFactorials.push((logFactorials[i - 1] ?? 0) + Math.log(i));
  }
  return logFactorials[n] ?? 0;
}

function logChoose(n: number, k: number): number {
  return k < 0 || k > n ? -Infinity : logFactorial(n) - logFactorial(k) - logFactorial(n - k);
}
