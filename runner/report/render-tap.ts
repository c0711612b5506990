import type { Report, ReportTest } from './report.ts';

/** TAP version 14. Pure. A kernel fault outside of every test is a point of its own. */
export function renderTap(report: Report): string {
  const points = report.tests.map((test, index) => tapPoint(index + 1, test));
  return [tapHeader(), ...points, ...tapEnd(report, points.length)].join('\n') + '\n';
}

export function tapHeader(): string {
  return 'TAP version 14';
}

export function tapPoint(number: number, test: ReportTest): string {
  const line = `${tapStatus(test)} ${number} - ${escapeTap(test.id)}${tapDirective(test)}`;
  const yaml = [
    '  ---',
    `  outcome: ${test.outcome}`,
    `  duration_ms: ${test.durationMs}`,
    ...(test.message === null ? [] : [`  message: ${JSON.stringify(test.message)}`]),
    ...(test.evidence.length === 0 ? [] : [`  evidence: ${JSON.stringify(test.evidence)}`]),
    '  ...',
  ];
  return [line, ...yaml].join('\n');
}

/** Everything after the tests: faults that no test owns, the plan, and why the run ended early. */
export function tapEnd(report: Report, count: number): readonly string[] {
  const faults = report.faults.filter((fault) => fault.test === null);
  const points = faults.map(
    (fault, index) => `not ok ${count + index + 1} - kernel fault: ${escapeTap(fault.title)}`,
  );
  const bail =
    report.failure === null ? [] : [`Bail out! ${report.failure.code}: ${oneLine(report.failure.message)}`];
  return [...points, `1..${count + faults.length}`, ...bail];
}

function tapStatus(test: ReportTest): string {
  return test.outcome === 'passed' || test.outcome === 'skipped' || test.outcome === 'not-run'
    ? 'ok'
    : 'not ok';
}

function tapDirective(test: ReportTest): string {
  const reason = oneLine(test.message ?? '');
  if (test.outcome === 'skipped') return ` # SKIP ${reason}`;
  if (test.outcome === 'not-run') return ` # SKIP not run: ${reason}`;
  return test.outcome === 'known-failure' ? ` # TODO ${reason}` : '';
}

function escapeTap(text: string): string {
  return oneLine(text).replaceAll(/[\\#]/g, String.raw`\$&`);
}

function oneLine(text: string): string {
  return text.replaceAll(/\s+/g, ' ').trim();
}
