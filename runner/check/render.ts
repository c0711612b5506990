import type { StepResult } from './run-step.ts';

/** Longest complaint that is printed; the whole of it comes from running the step by hand. Lines. */
const MAX_LINES = 200;

export function renderResult(result: StepResult): string {
  const { step, passed, failed, skipped, durationMs, complaint } = result;
  const mark = failed === 0 ? 'ok    ' : 'FAILED';
  const counts = step.counts === 'tap' ? `  ${passed} passed, ${failed} failed, ${skipped} skipped` : '';
  const head = `${mark} ${step.name.padEnd(10)} ${(durationMs / 1000).toFixed(1).padStart(6)} s${counts}`;
  if (failed === 0) return head;
  const shown = complaint.slice(0, MAX_LINES).map((line) => `    ${line}`.trimEnd());
  const more = complaint.length - shown.length;
  const command = [step.program, ...step.args].join(' ');
  return [
    head,
    ...shown,
    ...(more > 0 ? [`    … ${more} more lines`] : []),
    `    again: npx ${command}`,
  ].join('\n');
}

/** Every test counts, and every step that has no tests of its own counts as one. */
export function closingLine(results: readonly StepResult[]): string {
  const sum = (key: 'passed' | 'failed' | 'skipped'): number =>
    results.reduce((total, result) => total + result[key], 0);
  return `${sum('passed')} passed, ${sum('failed')} failed, ${sum('skipped')} skipped`;
}
