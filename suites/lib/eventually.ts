const TRIES = 400;

/**
 * Asks again until the answer is the one that is waited for: for states of the kernel that no request and no
 * exit announces. Every question is a trip to the guest, which is pause enough.
 * @returns the last answer, right or not: for the test to assert.
 */
export async function eventually<T>(
  ask: () => Promise<T>,
  isIt: (answer: T) => boolean,
  tries = TRIES,
): Promise<T> {
  let answer = await ask();
  for (let tried = 1; tried < tries && !isIt(answer); tried++) answer = await ask();
  return answer;
}
