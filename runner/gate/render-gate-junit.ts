import { escapeXml, renderJunit } from '#runner/report/render-junit.ts';
import type { Report } from '#runner/report/report.ts';
import { brokenBy, isRed } from './decide.ts';
import type { GatePatch, GateResult, GateVerdict } from './gate-schema.ts';

/** JUnit XML: one suite for the patches, one for the verdicts on the tests. Pure. */
export function renderGateJunit(report: Report): string {
  const { gate } = report;
  if (gate === null) return renderJunit(report);
  const broken = gate.patches.filter(
    (patch) =>
      patch.state === 'not-built' || patch.state === 'not-applied' || brokenBy(patch, gate).length > 0,
  ).length;
  const red = gate.verdicts.filter(isRed).length;
  return [
    '<?xml version="1.0" encoding="UTF-8"?>',
    `<testsuites name="fusegate gate" time="${(report.timings.totalMs / 1000).toFixed(3)}">`,
    `  <testsuite name="patches" tests="${gate.patches.length}" failures="${broken}" errors="0">`,
    ...gate.patches.map((patch) => patchCase(patch, gate)),
    '  </testsuite>',
    `  <testsuite name="verdicts" tests="${gate.verdicts.length}" failures="${red}" errors="0">`,
    ...gate.verdicts.map(verdictCase),
    '  </testsuite>',
    '</testsuites>',
    '',
  ].join('\n');
}

function patchCase(patch: GatePatch, gate: GateResult): string {
  const { index, subject } = patch;
  const number = gate.against === null ? `${index}/${gate.series.count} ` : '';
  const name = escapeXml(`${number}${subject}`);
  return `    <testcase classname="patches" name="${name}">${patchBody(patch, gate)}</testcase>`;
}

function patchBody(patch: GatePatch, gate: GateResult): string {
  const { state, message } = patch;
  if (state === 'not-run') return '<skipped message="not built"/>';
  if (state !== 'built') return `<failure type="${state}" message="${escapeXml(message ?? '')}"/>`;
  const broken = brokenBy(patch, gate);
  if (broken.length === 0) return '';
  const said = `breaks ${broken.length} ${broken.length === 1 ? 'test' : 'tests'}`;
  const ids = broken.map(({ id }) => id).join('\n');
  return `<failure type="regressed" message="${said}">${escapeXml(ids)}</failure>`;
}

function verdictCase(verdict: GateVerdict): string {
  const { id, kind, patch, base, patched, message } = verdict;
  const said = `${kind}${patch === null ? '' : ` by patch ${patch.last}`}: ${base.passes}/${base.runs} before, ${patched.passes}/${patched.runs} after`;
  const good = kind === 'passed' || kind === 'fixed';
  const body = isRed(verdict)
    ? `<failure type="${kind}" message="${escapeXml(said)}">${escapeXml(message ?? '')}</failure>`
    : good
      ? ''
      : `<skipped message="${escapeXml(said)}"/>`;
  return `    <testcase classname="verdicts" name="${escapeXml(id)}">${body}</testcase>`;
}
