import type { TestOutcome } from '#runner/lib/events.ts';

/** `0.4 s`, `12.3 s`, `5 min 31 s`. */
export function formatDuration(ms: number): string {
  if (ms < 59_950) return `${(ms / 1000).toFixed(1)} s`;
  const seconds = Math.round(ms / 1000);
  return `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
}

export const OUTCOME_MARK: Readonly<Record<TestOutcome, string>> = {
  passed: '✔',
  failed: '✘',
  crashed: '✘',
  'timed-out': '✘',
  skipped: '-',
  'not-run': '?',
  'known-failure': '~',
};

/** `passed` is said by its mark; everything else by its word, too. */
export function outcomeWord(outcome: TestOutcome): string {
  return outcome === 'passed' || outcome === 'failed' ? '' : `${outcome}: `;
}

export function indent(text: string, by = '    '): string {
  return text
    .split('\n')
    .map((line) => (line === '' ? '' : `${by}${line}`))
    .join('\n');
}
