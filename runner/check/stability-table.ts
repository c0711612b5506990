import type { Report } from '#runner/report/report.ts';

/** One run of the suites, as the table has it. */
export interface StabilityRun {
  readonly nth: number;
  readonly profile: string;
  readonly exitCode: number | undefined;
  /** `null`: the run left none. */
  readonly report: Report | null;
}

/** Whether it counts as a clean one: nothing failed, nothing was left open. */
export function isClean({ exitCode, report }: StabilityRun): boolean {
  return exitCode === 0 && report?.verdict === 'pass';
}

/** For docs/stability.md. Pure. */
export function renderStability(runs: readonly StabilityRun[]): string {
  const lines = [
    '| run | profile | kernel | accelerator | verdict | passed | failed | skipped | known failures | suites | whole run |',
    '| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |',
    ...runs.map(row),
    '',
    ...runs.filter((run) => !isClean(run)).flatMap(whatFailed),
    `${runs.filter(isClean).length} of ${runs.length} runs clean`,
  ];
  return `${lines.join('\n')}\n`;
}

function row({ nth, profile, report }: StabilityRun): string {
  if (report === null) return `| ${nth} | \`${profile}\` | | | no report | | | | | | |`;
  const { counts, timings, verdict } = report;
  const kernel = report.kernels.at(-1);
  const cells = [
    ...[String(nth), `\`${profile}\``, kernel?.release ?? '', kernel?.accelerator ?? '', verdict],
    ...[counts.passed, counts.failed, counts.skipped, counts.knownFailures].map(String),
    ...[timings.suitesMs, timings.totalMs].map(inMinutes),
  ];
  return `| ${cells.join(' | ')} |`;
}

function inMinutes(milliseconds: number | null): string {
  if (milliseconds === null) return '';
  const seconds = Math.round(milliseconds / 1000);
  return `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
}

function whatFailed({ nth, profile, exitCode, report }: StabilityRun): readonly string[] {
  const tests = report?.tests.filter(({ outcome }) =>
    ['failed', 'crashed', 'timed-out', 'not-run'].includes(outcome),
  );
  return [
    `Run ${nth} of \`${profile}\` ended with ${exitCode ?? 'a signal'}:`,
    '',
    ...(tests ?? []).map(({ id, outcome }) => `- ${outcome}: ${id}`),
    ...(report?.faults ?? []).map(({ kind, title }) => `- kernel fault (${kind}): ${title}`),
    ...failureLine(report),
    '',
  ];
}

function failureLine(report: Report | null): readonly string[] {
  const failure = report?.failure ?? null;
  return failure === null ? [] : [`- ${failure.code}: ${failure.message}`];
}
