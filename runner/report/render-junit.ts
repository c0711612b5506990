import type { Report, ReportTest } from './report.ts';
import { isFailure } from './report.ts';

/** JUnit XML: one suite per area, and one for what belongs to no test. Pure. */
export function renderJunit(report: Report): string {
  const areas = Map.groupBy(report.tests, (test) => test.area);
  const suites = [...areas].map(([area, tests]) => renderSuite(area, tests));
  return [
    '<?xml version="1.0" encoding="UTF-8"?>',
    `<testsuites name="fusegate" time="${seconds(report.timings.totalMs)}">`,
    ...suites,
    ...renderRun(report),
    '</testsuites>',
    '',
  ].join('\n');
}

function renderSuite(area: string, tests: readonly ReportTest[]): string {
  const count = (wanted: (test: ReportTest) => boolean): number => tests.filter(wanted).length;
  const time = tests.reduce((sum, test) => sum + test.durationMs, 0);
  const attributes =
    `name="${escapeXml(area)}" tests="${tests.length}" failures="${count(isFailure)}" errors="0" ` +
    `skipped="${count(isSkip)}" time="${seconds(time)}"`;
  return [`  <testsuite ${attributes}>`, ...tests.map(renderCase), '  </testsuite>'].join('\n');
}

function renderCase(test: ReportTest): string {
  const name = `classname="${escapeXml(className(test))}" name="${escapeXml(test.title)}"`;
  const body = [...renderResult(test), ...renderEvidence(test)];
  const open = `    <testcase ${name} time="${seconds(test.durationMs)}"`;
  return body.length === 0 ? `${open}/>` : [`${open}>`, ...body, '    </testcase>'].join('\n');
}

function renderResult(test: ReportTest): readonly string[] {
  const message = escapeXml(test.message ?? '');
  if (isFailure(test)) {
    const first = escapeXml((test.message ?? test.outcome).split('\n')[0] ?? '');
    return [`      <failure type="${test.outcome}" message="${first}">${message}</failure>`];
  }
  return isSkip(test) ? [`      <skipped message="${test.outcome}: ${message}"/>`] : [];
}

function renderEvidence({ evidence }: ReportTest): readonly string[] {
  if (evidence.length === 0) return [];
  const lines = evidence.map(({ label, path }) => `${label}: ${path}`).join('\n');
  return [`      <system-out>${escapeXml(lines)}</system-out>`];
}

/** Faults outside of tests and the early end of a run, as cases that a CI system counts. */
function renderRun({ faults, failure }: Report): readonly string[] {
  const loose = faults.filter((fault) => fault.test === null);
  const cases = [
    ...loose.map((fault) => ({ name: `kernel ${fault.kind}`, tag: 'failure', message: fault.title })),
    ...(failure === null
      ? []
      : [{ name: 'the run', tag: 'error', message: `${failure.code}: ${failure.message}` }]),
  ];
  if (cases.length === 0) return [];
  const errors = failure === null ? 0 : 1;
  return [
    `  <testsuite name="fusegate" tests="${cases.length}" failures="${loose.length}" errors="${errors}">`,
    ...cases.map(
      ({ name, tag, message }) =>
        `    <testcase classname="fusegate" name="${escapeXml(name)}"><${tag} message="${escapeXml(message)}"/></testcase>`,
    ),
    '  </testsuite>',
  ];
}

function isSkip(test: ReportTest): boolean {
  return test.outcome === 'skipped' || test.outcome === 'not-run' || test.outcome === 'known-failure';
}

function className(test: ReportTest): string {
  return test.id.slice(0, Math.max(0, test.id.length - test.title.length - 2)).replaceAll('/', '.');
}

function seconds(ms: number): string {
  return (ms / 1000).toFixed(3);
}

/** Also drops what XML 1.0 cannot hold at all. */
export function escapeXml(text: string): string {
  return text
    .replaceAll(/[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\u{10000}-\u{10ffff}]/gu, '')
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;')
    .replaceAll('\n', '&#10;');
}
