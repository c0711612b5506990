import type { LeaseOutcome } from '#runner/verdict/judge-test.ts';

/** A test may hold one lease after another; they are judged as one. */
export function joinLeases(first: LeaseOutcome | undefined, next: LeaseOutcome): LeaseOutcome {
  if (first === undefined) return next;
  return {
    machine: next.machine,
    durationMs: first.durationMs + next.durationMs,
    findings: [...first.findings, ...next.findings],
    excused: [...(first.excused ?? []), ...(next.excused ?? [])],
    evidence: [...first.evidence, ...next.evidence],
    lost: first.lost ?? next.lost,
    suspect: first.suspect || next.suspect,
    skipReason: next.skipReason ?? first.skipReason,
  };
}
