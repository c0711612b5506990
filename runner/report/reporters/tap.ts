import { tapEnd, tapHeader, tapPoint } from '../render-tap.ts';
import type { StreamReporter } from './lines.ts';

/** TAP on a stream while the tests run; the plan comes last, as TAP allows. */
export function tapReporter(write: (text: string) => void): StreamReporter {
  let count = 0;
  return {
    sink: (event) => {
      if (event.type === 'run-started') write(`${tapHeader()}\n`);
      if (event.type !== 'test-finished') return;
      count += 1;
      write(`${tapPoint(count, { ...event, evidence: [...event.evidence], kernel: null })}\n`);
    },
    end: (report) => {
      write(`${tapEnd(report, count).join('\n')}\n`);
    },
  };
}
