import type { Report, ReportFailure, ReportFault, ReportTest } from '#runner/report/report.ts';
import { isFailure } from '#runner/report/report.ts';
import type { ExitCode } from '#runner/lib/failure.ts';
import { ExitCode as Code, exitCodeOf } from '#runner/lib/failure.ts';

export type Verdict = Report['verdict'];

export interface Outcome {
  readonly tests: readonly ReportTest[];
  readonly faults: readonly ReportFault[];
  readonly failure: ReportFailure | null;
}

/**
 * What a run says about the kernel. What the kernel did wrong counts even when the run ended early; a run
 * that did nothing wrong but left a question open is inconclusive.
 */
export function decideVerdict({ tests, faults, failure }: Outcome): Verdict {
  if (tests.some(isFailure) || unexpectedFaults({ tests, faults }).length > 0) return 'fail';
  if (failure !== null) return isKernels(failure) ? 'fail' : 'inconclusive';
  return tests.some((test) => test.outcome === 'not-run') ? 'inconclusive' : 'pass';
}

/** Without those of tests that are known to fail, with which they have been told. */
export function unexpectedFaults({
  tests,
  faults,
}: Pick<Outcome, 'tests' | 'faults'>): readonly ReportFault[] {
  const known = new Set(tests.filter((test) => test.outcome === 'known-failure').map((test) => test.id));
  return faults.filter((fault) => fault.test === null || !known.has(fault.test));
}

function isKernels(failure: ReportFailure): boolean {
  return failure.blame === 'kernel' || failure.blame === 'series' || failure.blame === 'test';
}

/** The exit code of the contract. An interrupt is always said; a kernel that failed outweighs what broke later. */
export function exitCodeFor(verdict: Verdict, failure: ReportFailure | null): ExitCode {
  if (failure?.blame === 'interrupted') return Code.interrupted;
  if (failure?.blame === 'series') return Code.build;
  if (verdict === 'fail') return Code.kernelFailed;
  if (failure !== null) return exitCodeOf(failure.blame);
  return verdict === 'pass' ? Code.passed : Code.infrastructure;
}
