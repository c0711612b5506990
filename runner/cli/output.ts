import type { EventSink } from '#runner/lib/events.ts';
import type { Config } from '#runner/config/config.ts';
import { renderAnnotations } from '#runner/report/render-annotations.ts';
import { renderResult, renderSummary } from '#runner/report/render-text.ts';
import type { Report } from '#runner/report/report.ts';
import { linesReporter } from '#runner/report/reporters/lines.ts';
import { LiveReporter } from '#runner/report/reporters/live.ts';
import { tapReporter } from '#runner/report/reporters/tap.ts';
import { rerunCommand } from '#runner/report/rerun.ts';

/** What people see while a command runs, and at its end. */
export interface Output extends Disposable {
  readonly sinks: readonly EventSink[];
  /** The summary; its last line is the closing line. Also the annotations of GitHub Actions. */
  end(result: { readonly report: Report; readonly reportPath: string }, closing: boolean): void;
}

/** A live view on a terminal, plain lines elsewhere; with `--tap` TAP on stdout and the rest on stderr. */
export function openOutput(config: Config): Output {
  const people = config.tap ? process.stderr : process.stdout;
  const write = (text: string): void => {
    people.write(text);
  };
  const rerun = rerunCommand(config);
  const live = people.isTTY && process.env['CI'] === undefined ? new LiveReporter(people, rerun) : undefined;
  const tap = config.tap ? tapReporter((text) => process.stdout.write(text)) : undefined;
  return {
    sinks: [live?.sink ?? linesReporter(write, rerun), ...(tap === undefined ? [] : [tap.sink])],
    end: ({ report, reportPath }, closing) => {
      live?.[Symbol.dispose]();
      tap?.end(report);
      if (process.env['GITHUB_ACTIONS'] === 'true') write(renderAnnotations(report));
      const summary = closing ? renderSummary(report) : renderResult(report);
      write(`\nreport: ${reportPath}${summary}`);
    },
    [Symbol.dispose]() {
      live?.[Symbol.dispose]();
    },
  };
}
