import { basename } from 'node:path';
import type { Report } from './report.ts';

export interface Comparable {
  readonly tests: readonly object[];
  readonly faults: readonly object[];
  readonly [other: string]: unknown;
}

/**
 * Pure: of a report what must be the same when the same tests run again on the same kernel, however many
 * machines there are: everything but times and what machines and directories are called.
 */
export function comparable({ verdict, tests, faults, counts, failure }: Report): Comparable {
  const files = (evidence: readonly { readonly label: string; readonly path: string }[]): string[] =>
    evidence.map(({ label, path }) => `${label}: ${basename(path)}`);
  return {
    verdict,
    counts,
    failure: failure?.code ?? null,
    tests: tests.map(({ durationMs: _, message, evidence, ...test }) => ({
      ...test,
      message: message === null ? null : withoutPlaces(message),
      evidence: files(evidence),
    })),
    faults: faults.map(({ evidence, ...fault }) => ({ ...fault, evidence: files(evidence) })),
  };
}

/** Without the names of machines and of the directory that holds the suites. */
function withoutPlaces(message: string): string {
  return message.replaceAll(/\bmachine-\d+\b/g, 'machine').replaceAll(/file:\/\/\S*?(?=\/suites\/)/g, '');
}
