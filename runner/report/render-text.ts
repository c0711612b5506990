import type { Evidence } from '#runner/lib/failure.ts';
import { unexpectedFaults } from '#runner/verdict/classify.ts';
import { formatDuration, indent, OUTCOME_MARK, outcomeWord } from './format.ts';
import type { Report, ReportFailure, ReportTest } from './report.ts';
import { isFailure } from './report.ts';
import { rerunTest } from './rerun.ts';

/** The whole report for people. Pure; ends with the closing line. */
export function renderText(report: Report): string {
  const tests = report.tests.map((test) => renderTest(test, report));
  return [...tests, renderSummary(report)].join('\n');
}

/** One line for a test; for one that is not good news also why, the evidence and how to see it again. */
export function renderTest(test: ReportTest, report: Pick<Report, 'rerun'>): string {
  const duration = test.durationMs > 0 ? ` (${formatDuration(test.durationMs)})` : '';
  const line = `${OUTCOME_MARK[test.outcome]} ${outcomeWord(test.outcome)}${test.id}${duration}`;
  if (test.outcome === 'passed') return line;
  const details = [
    ...(test.message === null ? [] : [indent(test.message)]),
    ...test.evidence.map(renderEvidence),
    ...(isFailure(test) ? [indent(`again: ${rerunTest(report, test)}`)] : []),
  ];
  return [line, ...details].join('\n');
}

/** What comes after the tests. The last line is the closing line of the contract, alone. */
export function renderSummary(report: Report): string {
  return `${renderResult(report)}${closingLine(report)}\n`;
}

/** The same without the closing line: for one run of several. */
export function renderResult(report: Report): string {
  return [
    '',
    ...report.kernels.map(
      (kernel) =>
        `kernel ${kernel.release} (${kernel.id}${kernel.accelerator === null ? '' : `, ${kernel.accelerator}`})` +
        (kernel.series === null ? '' : `, series ${kernel.series}`),
    ),
    ...renderFaults(report),
    ...(report.failure === null ? [] : [renderFailure(report.failure)]),
    `verdict: ${report.verdict} after ${formatDuration(report.timings.totalMs)}${renderTimings(report)}`,
    ...(report.counts.knownFailures === 0 ? [] : [`known failures: ${report.counts.knownFailures}`]),
    '',
  ].join('\n');
}

export function closingLine({ counts }: Pick<Report, 'counts'>): string {
  return `${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped`;
}

/** A failure that is understood: one sentence, where to look, what to do. */
export function renderFailure(failure: ReportFailure): string {
  return [
    `fusegate: ${failure.code}: ${failure.message}`,
    ...failure.excerpt.map((line) => indent(`| ${line}`)),
    ...failure.evidence.map(renderEvidence),
    ...(failure.hint === null ? [] : [indent(`hint: ${failure.hint}`)]),
  ].join('\n');
}

function renderFaults(report: Report): readonly string[] {
  return unexpectedFaults(report).flatMap((fault) => [
    `kernel fault (${fault.kind}): ${fault.title}`,
    ...(fault.test === null ? [] : [indent(`during ${fault.test}`)]),
    ...fault.evidence.map(renderEvidence),
  ]);
}

function renderEvidence({ label, path }: Evidence): string {
  return indent(`${label}: ${path}`);
}

function renderTimings({ timings }: Report): string {
  const parts = (['build', 'image', 'boot', 'deploy', 'suites'] as const).flatMap((stage) => {
    const ms = timings[`${stage}Ms`];
    return ms === null ? [] : [`${stage} ${formatDuration(ms)}`];
  });
  return parts.length === 0 ? '' : ` (${parts.join(', ')})`;
}
