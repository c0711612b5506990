/**
 * Work, or what is to be said when it takes too long. The work itself goes on; what it ends with then is
 * nobody's business any more.
 *
 * @param late its value is given, or what it throws is thrown, after `limitMs` milliseconds.
 */
export async function beforeDeadline<T, L>(work: Promise<T>, limitMs: number, late: () => L): Promise<T | L> {
  const passed = Promise.withResolvers<'passed'>();
  const timer = setTimeout(() => passed.resolve('passed'), limitMs);
  // Lost races must not count as unhandled.
  work.catch(() => undefined);
  try {
    const done = work.then((value) => ({ value }));
    const first = await Promise.race([done, passed.promise]);
    return first === 'passed' ? late() : first.value;
  } finally {
    clearTimeout(timer);
  }
}
