import { join } from 'node:path';
import type { Command } from 'commander';
import { Option } from 'commander';
import { gateExitCode } from '#runner/gate/decide.ts';
import { formatGate, gateFormats, type GateFormat } from '#runner/gate/formats.ts';
import { Failure } from '#runner/lib/failure.ts';
import { loadReport } from '#runner/report/load-report.ts';
import { renderJunit } from '#runner/report/render-junit.ts';
import { renderTap } from '#runner/report/render-tap.ts';
import { renderText } from '#runner/report/render-text.ts';
import type { Report } from '#runner/report/report.ts';
import { exitCodeFor } from '#runner/verdict/classify.ts';
import type { Ends } from '../main.ts';

const FORMATS: Readonly<Record<string, (report: Report) => string>> = {
  text: renderText,
  json: (report) => `${JSON.stringify(report, undefined, 2)}\n`,
  tap: renderTap,
  junit: renderJunit,
};

/** Shows a saved report again, that of a run or of a gate. The exit code is what it was. */
export function addReportCommand(program: Command, ends: Ends): void {
  const names = [...new Set([...Object.keys(FORMATS), ...gateFormats])];
  program
    .command('report')
    .description('show a report again')
    .argument('[dir]', 'directory of a run or a gate (default: out/latest)')
    .addOption(new Option('--format <format>', 'how').choices(names).default('text'))
    .action(async (dir: string | undefined, { format }: { readonly format: string }) => {
      const report = await loadReport(dir ?? join('out', 'latest'));
      process.stdout.write(shown(report, format));
      const { gate, verdict, failure } = report;
      ends(gate === null || failure !== null ? exitCodeFor(verdict, failure) : gateExitCode(gate));
    });
}

/** @throws Failure E_USAGE (user) for a format that only gates have. */
function shown(report: Report, format: string): string {
  if (report.gate !== null && isGateFormat(format)) return formatGate(report, format);
  const render = FORMATS[format];
  if (render !== undefined) return render(report);
  throw new Failure(
    'E_USAGE',
    'user',
    `--format ${format} is for the report of a gate, this one is of a run`,
  );
}

function isGateFormat(format: string): format is GateFormat {
  return (gateFormats as readonly string[]).includes(format);
}
