import type { Report } from '#runner/report/report.ts';
import type { Role } from './victims.ts';

/** A run under fire, after its end. */
export interface Ended {
  /** Null when a signal ended it. */
  readonly exitCode: number | null;
  readonly output: string;
  readonly report: Report | undefined;
  readonly killed: readonly Role[];
  /** Ids of the tests whose beginning a guest's kernel has on its console. */
  readonly marked: ReadonlySet<string>;
  /** Tests that were asked for. */
  readonly expected: number;
}

/** Pure: what is wrong with how it ended; nothing when every word of it is true. */
export function complaints(ended: Ended): readonly string[] {
  const wrong = /^ {4,}at .+:\d+:\d+\)?$/m.test(ended.output) ? ['it shows a stack'] : [];
  if (ended.exitCode === null) return ended.killed.includes('runner') ? wrong : [...wrong, 'it was killed'];
  if (ended.report === undefined) {
    const told = ended.exitCode === 3 && /\bE_[A-Z_]+\b/.test(ended.output);
    return told ? wrong : [...wrong, `no report, and exit code ${ended.exitCode}`];
  }
  return [...wrong, ...ofTests(ended, ended.report), ...ofEnd(ended, ended.report)];
}

function ofTests({ marked, expected }: Ended, { tests, failure }: Report): readonly string[] {
  const wrong = tests
    .filter(({ outcome }) => outcome !== 'passed' && outcome !== 'not-run')
    .map(({ id, outcome, message }) => `${id} is told as ${outcome}: ${message ?? ''}`);
  const unproved = tests
    .filter(({ id, outcome }) => outcome === 'passed' && !marked.has(id))
    .map(({ id }) => `${id} is told as passed, and no guest has seen it`);
  const lost = failure === null && !tests.some(({ title }) => title === 'the test file runs');
  const missing = lost && tests.length !== expected ? [`${tests.length} tests of ${expected}`] : [];
  return [...wrong, ...unproved, ...missing];
}

function ofEnd({ exitCode, output, killed, expected }: Ended, report: Report): readonly string[] {
  const { tests, verdict, failure, faults } = report;
  const whole = tests.length === expected && tests.every(({ outcome }) => outcome === 'passed');
  const right =
    whole && failure === null ? { code: 0, verdict: 'pass' } : { code: 3, verdict: 'inconclusive' };
  return [
    ...faults.map(({ title }) => `the kernel is blamed: ${title}`),
    ...(exitCode === right.code ? [] : [`exit code ${String(exitCode)} instead of ${right.code}`]),
    ...(verdict === right.verdict ? [] : [`verdict ${verdict} instead of ${right.verdict}`]),
    ...(right.code !== 0 && killed.length === 0 ? ['nothing was killed'] : []),
    ...(failure !== null && !output.includes(failure.message) ? ['its failure is not told'] : []),
    ...(/\d+ passed, \d+ failed, \d+ skipped$/.test(output.trimEnd()) ? [] : ['no closing line']),
  ];
}
