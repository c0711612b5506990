import type { Config } from '#runner/config/config.ts';
import { explain as explainTest } from '#runner/gate/explain.ts';
import { formatGate, type GateFormat } from '#runner/gate/formats.ts';
import { renderAnnotations } from '#runner/report/render-annotations.ts';
import { linesReporter } from '#runner/report/reporters/lines.ts';
import { LiveReporter } from '#runner/report/reporters/live.ts';
import { rerunCommand } from '#runner/report/rerun.ts';
import type { Output } from './output.ts';

/** Progress on standard error, the result on standard output: `gate … | mail` sends the result alone. */
export function openGateOutput(config: Config, format: GateFormat, explain: string | undefined): Output {
  const people = process.stderr;
  const write = (text: string): void => {
    people.write(text);
  };
  const rerun = rerunCommand(config);
  const live = people.isTTY && process.env['CI'] === undefined ? new LiveReporter(people, rerun) : undefined;
  return {
    sinks: [live?.sink ?? linesReporter(write, rerun)],
    end: (report, reportPath) => {
      live?.[Symbol.dispose]();
      if (process.env['GITHUB_ACTIONS'] === 'true') write(renderAnnotations(report));
      write(`\nreport: ${reportPath}\n`);
      process.stdout.write(explain === undefined ? formatGate(report, format) : explainTest(report, explain));
    },
    [Symbol.dispose]() {
      live?.[Symbol.dispose]();
    },
  };
}
