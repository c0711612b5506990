/** How often it is asked at least, and for how long: a fast machine answers sooner than another thread comes to run. */
const TRIES = 400;
const AT_LEAST_MS = 15_000;

/**
 * Asks again until the answer is the one that is waited for: for states of the kernel that no request and no
 * exit announces. Every question is a trip to the guest, which is pause enough.
 * @param tries how often at most, for what is expected not to come
 * @returns the last answer, right or not: for the test to assert.
 */
export async function eventually<T>(
  ask: () => Promise<T>,
  isIt: (answer: T) => boolean,
  tries?: number,
): Promise<T> {
  const startedAt = performance.now();
  const mayAsk = (tried: number): boolean =>
    tried < (tries ?? TRIES) || (tries === undefined && performance.now() - startedAt < AT_LEAST_MS);
  let answer = await ask();
  for (let tried = 1; !isIt(answer) && mayAsk(tried); tried++) answer = await ask();
  return answer;
}
