import type { Profile } from '#kernel/profile.ts';
import type { Report } from '#runner/report/report.ts';
import { isFailure } from '#runner/report/report.ts';

export type ExpectedFailure = Profile['expectations'][number];

/** How a run of a kernel that is known to be wrong differs from what is wrong with it. All empty: not at all. */
export interface Deviation {
  /** Tests that failed, and nobody expected it. */
  readonly unexpected: readonly string[];
  /** Tests that were expected to fail and did something else, with what they did. */
  readonly missing: readonly { readonly test: string; readonly outcome: string }[];
  /** Tests that failed as expected, and whose message does not say why. */
  readonly unexplained: readonly { readonly test: string; readonly says: string }[];
  /** Kernel faults, and whatever else kept the run from a verdict. */
  readonly other: readonly string[];
}

/** Holds a report against the failures that its profile lists. Pure. */
export function deviationFrom(expected: readonly ExpectedFailure[], report: Report): Deviation {
  const outcomes = new Map(report.tests.map((test) => [test.id, test]));
  const listed = new Set(expected.map(({ test }) => test));
  const failed = expected.filter(({ test }) => isFailure(outcomes.get(test) ?? { outcome: 'not-run' }));
  return {
    unexpected: report.tests.filter((test) => isFailure(test) && !listed.has(test.id)).map(({ id }) => id),
    missing: expected
      .filter((each) => !failed.includes(each))
      .map(({ test }) => ({ test, outcome: outcomes.get(test)?.outcome ?? 'not selected' })),
    unexplained: failed.flatMap(({ test, says }) => {
      const message = outcomes.get(test)?.message ?? '';
      return says.filter((words) => !message.includes(words)).map((words) => ({ test, says: words }));
    }),
    other: [
      ...report.faults.map(({ kind, title }) => `kernel fault (${kind}): ${title}`),
      ...report.tests.filter(({ outcome }) => outcome === 'not-run').map(({ id }) => `not run: ${id}`),
      ...(report.failure === null ? [] : [`${report.failure.code}: ${report.failure.message}`]),
    ],
  };
}

export function isNone({ unexpected, missing, unexplained, other }: Deviation): boolean {
  return [unexpected, missing, unexplained, other].every((list) => list.length === 0);
}

/** For people. One line each; the last one says it all. */
export function renderDeviation(deviation: Deviation, expected: readonly ExpectedFailure[]): string {
  const lines = [
    ...expected.map(({ test, reason }) => `expected to fail: ${test}\n  ${reason}`),
    ...deviation.unexpected.map((test) => `failed, and was not expected to: ${test}`),
    ...deviation.missing.map(({ test, outcome }) => `was expected to fail, and is ${outcome}: ${test}`),
    ...deviation.unexplained.map(({ test, says }) => `failed without saying "${says}": ${test}`),
    ...deviation.other,
    isNone(deviation) ? `failed in exactly the ${expected.length} tests expected` : 'not as expected',
  ];
  return `${lines.join('\n')}\n`;
}
