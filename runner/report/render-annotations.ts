import { unexpectedFaults } from '#runner/verdict/classify.ts';
import type { Report } from './report.ts';
import { isFailure } from './report.ts';

/** GitHub Actions shows at most ten errors of a step; the report has them all. */
const LIMIT = 10;

/**
 * Workflow commands for GitHub Actions, escaped as @actions/core does. The only place that makes any: in every
 * other output text that looks like one has been broken.
 */
export function renderAnnotations(report: Report): string {
  const errors = [
    ...(report.failure === null ? [] : [{ title: report.failure.code, message: report.failure.message }]),
    ...unexpectedFaults(report).map((fault) => ({ title: `kernel ${fault.kind}`, message: fault.title })),
    ...report.tests
      .filter(isFailure)
      .map((test) => ({ title: test.id, message: test.message ?? test.outcome })),
  ];
  return errors
    .slice(0, LIMIT)
    .map(({ title, message }) => `::error title=${escapeProperty(title)}::${escapeData(message)}\n`)
    .join('');
}

function escapeData(text: string): string {
  return text.replaceAll('%', '%25').replaceAll('\r', '%0D').replaceAll('\n', '%0A');
}

function escapeProperty(text: string): string {
  return escapeData(text).replaceAll(':', '%3A').replaceAll(',', '%2C');
}
