import { join } from 'node:path';
import type { Command } from 'commander';
import { Option } from 'commander';
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

/** Shows a saved report again. The exit code is that of the run. */
export function addReportCommand(program: Command, ends: Ends): void {
  program
    .command('report')
    .description('show a report again')
    .argument('[dir]', 'directory of a run (default: out/latest)')
    .addOption(new Option('--format <format>', 'how').choices(Object.keys(FORMATS)).default('text'))
    .action(async (dir: string | undefined, { format }: { readonly format: string }) => {
      const report = await loadReport(dir ?? join('out', 'latest'));
      process.stdout.write(FORMATS[format]?.(report) ?? '');
      ends(exitCodeFor(report.verdict, report.failure));
    });
}
