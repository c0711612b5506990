import { unexpectedFaults } from '#runner/verdict/classify.ts';
import type { Report } from './report.ts';
import { isFailure } from './report.ts';

/** GitHub Actions shows at most ten errors of a step; the report has them all. */
const LIMIT = 10;

export interface Annotation {
  readonly title: string;
  readonly message: string;
}

/** What went wrong in a run. Pure. */
export function renderAnnotations(report: Report): string {
  return workflowErrors([
    ...failureOf(report),
    ...unexpectedFaults(report).map((fault) => ({ title: `kernel ${fault.kind}`, message: fault.title })),
    ...report.tests
      .filter(isFailure)
      .map((test) => ({ title: test.id, message: test.message ?? test.outcome })),
  ]);
}

export function failureOf({ failure }: Report): readonly Annotation[] {
  return failure === null ? [] : [{ title: failure.code, message: failure.message }];
}

/**
 * Workflow commands for GitHub Actions, escaped as @actions/core does. The only place that makes any: in every
 * other output text that looks like one has been broken.
 */
export function workflowErrors(errors: readonly Annotation[]): string {
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
