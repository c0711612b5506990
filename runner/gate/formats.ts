import { neutraliseCommands } from '#runner/lib/clean-text.ts';
import { renderFailure } from '#runner/report/render-text.ts';
import type { Report } from '#runner/report/report.ts';
import { renderB4 } from './render-b4.ts';
import { renderGate } from './render-gate.ts';
import { renderGateJunit } from './render-gate-junit.ts';
import { renderKtap } from './render-ktap.ts';
import { wrap } from './wrap.ts';

export const gateFormats = ['text', 'json', 'b4', 'junit', 'ktap'] as const;
export type GateFormat = (typeof gateFormats)[number];

/** The report of a gate in one of its formats. Pure. */
export function formatGate(report: Report, format: GateFormat): string {
  switch (format) {
    case 'text':
      return gateText(report);
    case 'json':
      return `${JSON.stringify(report, undefined, 2)}\n`;
    case 'b4':
      return `${JSON.stringify(renderB4(report), undefined, 2)}\n`;
    case 'junit':
      return renderGateJunit(report);
    case 'ktap':
      return renderKtap(report);
  }
}

/** In at most 72 columns; a gate that did not get anywhere says why. */
export function gateText(report: Report): string {
  const { gate, failure, verdict, kernels, timings, counts } = report;
  const lines =
    failure === null
      ? []
      : renderFailure(failure)
          .split('\n')
          .flatMap((line) => wrap(line, '', '    '));
  const said = lines.length === 0 ? '' : `${lines.join('\n')}\n`;
  if (gate === null)
    return neutraliseCommands(
      `${said}${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped\n`,
    );
  return neutraliseCommands(
    `${said}${renderGate({ gate, verdict, kernels, totalMs: timings.totalMs, counts })}`,
  );
}
