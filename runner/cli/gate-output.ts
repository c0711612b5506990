import type { Config } from '#runner/config/config.ts';
import { isRed } from '#runner/gate/decide.ts';
import { explain as explainTest } from '#runner/gate/explain.ts';
import { formatGate, type GateFormat } from '#runner/gate/formats.ts';
import { renderGateAnnotations } from '#runner/gate/render-gate-annotations.ts';
import type { TimedEvent } from '#runner/lib/events.ts';
import { linesReporter } from '#runner/report/reporters/lines.ts';
import { LiveReporter } from '#runner/report/reporters/live.ts';
import type { Report } from '#runner/report/report.ts';
import { rerunCommand, shellWord } from '#runner/report/rerun.ts';
import type { Output } from './output.ts';

/** Progress on standard error, the result on standard output: `gate … | mail` sends the result alone. */
export function openGateOutput(config: Config, format: GateFormat, explain: string | undefined): Output {
  const people = process.stderr;
  const write = (text: string): void => {
    people.write(text);
  };
  const rerun = rerunCommand(config);
  const live = people.isTTY && process.env['CI'] === undefined ? new LiveReporter(people, rerun) : undefined;
  const sink = live?.sink ?? linesReporter(write, rerun);
  return {
    sinks: [(event) => sink(inShort(event))],
    end: ({ report, reportPath }) => {
      live?.[Symbol.dispose]();
      if (process.env['GITHUB_ACTIONS'] === 'true') write(renderGateAnnotations(report));
      write(`\nreport: ${reportPath}\n${againLines(report, reportPath)}`);
      process.stdout.write(explain === undefined ? formatGate(report, format) : explainTest(report, explain));
    },
    [Symbol.dispose]() {
      live?.[Symbol.dispose]();
    },
  };
}

/** What a test said is in the report; here it only has to be seen that it did not pass. */
function inShort(event: TimedEvent): TimedEvent {
  if (event.type !== 'test-finished' || event.outcome === 'passed') return event;
  return { type: 'note', text: `${event.outcome}: ${event.id}`, at: event.at };
}

/** More commands than this are no help. */
const COMMANDS = 5;

function againLines({ gate }: Report, reportPath: string): string {
  const red = gate?.verdicts.filter(isRed).slice(0, COMMANDS) ?? [];
  return red
    .map(({ test }) => `again: npx fusegate reproduce ${shellWord(reportPath)} ${shellWord(test)}\n`)
    .join('');
}
