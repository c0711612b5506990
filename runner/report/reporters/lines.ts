import { cleanLine, neutraliseCommands } from '#runner/lib/clean-text.ts';
import type { EventSink, RunEvent, Stage, TimedEvent } from '#runner/lib/events.ts';
import { formatDuration, indent } from '../format.ts';
import type { Report } from '../report.ts';
import { renderTest } from '../render-text.ts';

/** Where there is no terminal a long stage says this often that it is alive. Milliseconds. */
const PROGRESS_EVERY_MS = 30_000;

/** One line, or a few, for every event worth one; no cursor movement. For pipes, files and CI. */
export function linesReporter(write: (text: string) => void, rerun: string): EventSink {
  const told = new Map<Stage, number>();
  return (event) => {
    const lines = event.type === 'stage-progress' ? progress(event, told) : describeEvent(event, rerun);
    if (lines !== undefined) write(`${lines}\n`);
  };
}

/** The lines of an event that stay on the screen; `undefined`: none. */
export function describeEvent(event: TimedEvent, rerun: string): string | undefined {
  switch (event.type) {
    case 'run-started':
      return `fusegate: profile ${event.profile}${event.series === null ? '' : `, series ${shown(event.series)}`}; results in ${event.out}`;
    case 'stage-started':
      return event.log === undefined
        ? undefined
        : stageLine(event.stage, `${shown(event.title)} … (log: ${event.log})`);
    case 'stage-finished':
      return stageLine(event.stage, finished(event));
    case 'stage-failed':
      return stageLine(event.stage, `failed after ${formatDuration(event.durationMs)}`);
    case 'patch-applied':
      return stageLine('apply', `${event.index}/${event.count} ${shown(event.subject)}`);
    case 'machine-lost':
      return `machine ${event.machine} lost: ${shown(event.failure.message)}`;
    case 'test-finished':
      return renderTest({ ...event, evidence: [...event.evidence], kernel: null }, { rerun });
    case 'kernel-fault':
      return `kernel fault (${event.kind}): ${shown(event.title)}${event.test === null ? '' : `\n${indent(`during ${event.test}`)}`}`;
    case 'note':
      return `note: ${shown(event.text)}`;
    default:
      return undefined;
  }
}

export function stageLine(stage: Stage, text: string): string {
  return `${stage.padEnd(7)} ${text}`;
}

export function progressText(event: RunEvent & { type: 'stage-progress' }): string {
  const { done, total, unit } = event;
  if (total === undefined || total <= 0) return `${done} ${unit}`;
  return `${done}/${total} ${unit}, ${Math.min(100, Math.floor((100 * done) / total))} %`;
}

function finished(event: RunEvent & { type: 'stage-finished' }): string {
  const detail = event.detail === undefined ? '' : `${shown(event.detail)} `;
  return event.cached ? `${detail}(cached)` : `${detail}(${formatDuration(event.durationMs)})`;
}

function progress(
  event: TimedEvent & { type: 'stage-progress' },
  told: Map<Stage, number>,
): string | undefined {
  const last = told.get(event.stage);
  if (last !== undefined && event.at - last < PROGRESS_EVERY_MS) return undefined;
  told.set(event.stage, event.at);
  return stageLine(event.stage, progressText(event));
}

function shown(text: string): string {
  return neutraliseCommands(cleanLine(text));
}

/** TAP as it happens; `end` is called with the finished report. */
export interface StreamReporter {
  readonly sink: EventSink;
  end(report: Report): void;
}
