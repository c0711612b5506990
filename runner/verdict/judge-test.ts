import type { Evidence, Failure } from '#runner/lib/failure.ts';
import { cleanText, neutraliseCommands } from '#runner/lib/clean-text.ts';
import type { Finding } from '#runner/lease/messages.ts';
import type { Judged } from './known-failures.ts';

/** What AVA said about a test. */
export interface TestStatement {
  readonly outcome: 'passed' | 'failed' | 'skipped' | 'timed-out' | 'not-run';
  readonly durationMs: number;
  readonly message: string | null;
}

/** What the broker saw while the test had a machine. */
export interface LeaseOutcome {
  readonly machine: string;
  /** From the grant of the machine until the test gave it back. */
  readonly durationMs: number;
  readonly findings: readonly Finding[];
  /** Why complaints of the kernel are none of the findings: a sentence each, with the complaint. */
  readonly excused?: readonly string[] | undefined;
  readonly evidence: readonly Evidence[];
  /** The end of the machine during the lease. */
  readonly lost: Failure | null;
  /** The accelerator is suspected, see KernelFault. */
  readonly suspect: boolean;
  /** The test's own reason for not testing anything. */
  readonly skipReason: string | null;
  /** The test gave up waiting for its own steps. */
  readonly timedOut?: boolean | undefined;
}

/** Joins what AVA and the broker saw of one test. Pure. */
export function judgeTest(stated: TestStatement, lease: LeaseOutcome | undefined): Judged {
  const statement = withTimeout(stated, lease);
  const said = statement.message === null ? null : presentable(statement.message);
  if (lease === undefined) return { outcome: statement.outcome, message: said };
  if (lease.suspect) {
    return {
      outcome: 'not-run',
      message: `no verdict, the emulator is suspected: ${joined(lease.findings)}`,
    };
  }
  if (lease.lost !== null) {
    const because = presentable(lease.lost.message);
    const findings = lease.findings.filter((finding) => finding.kind !== 'machine-lost');
    return lease.lost.blame === 'infra' || lease.lost.blame === 'interrupted'
      ? { outcome: 'not-run', message: because }
      : { outcome: 'crashed', message: [because, joined(findings)].filter(Boolean).join('\n') };
  }
  if (lease.skipReason !== null && statement.outcome === 'passed' && lease.findings.length === 0) {
    return { outcome: 'skipped', message: presentable(lease.skipReason) };
  }
  const unsaid = lease.findings.filter((finding) => said?.includes(finding.message) !== true);
  // Cut short, a test had no chance to tidy up; what the kernel itself complained about counts all the same.
  if (statement.outcome === 'not-run' && unsaid.every(isLeftOver))
    return { outcome: 'not-run', message: said };
  if (unsaid.length === 0) return withExcuses({ outcome: statement.outcome, message: said }, lease);
  const outcome = statement.outcome === 'timed-out' ? 'timed-out' : 'failed';
  return { outcome, message: [said, joined(unsaid)].filter(Boolean).join('\n') };
}

function withExcuses(judged: Judged, { excused = [] }: LeaseOutcome): Judged {
  if (judged.outcome !== 'passed' || excused.length === 0) return judged;
  return { outcome: 'known-failure', message: excused.map(presentable).join('\n') };
}

/** To AVA a test that gave up by itself has failed. */
function withTimeout(stated: TestStatement, lease: LeaseOutcome | undefined): TestStatement {
  return lease?.timedOut === true && stated.outcome === 'failed'
    ? { ...stated, outcome: 'timed-out' }
    : stated;
}

function isLeftOver({ kind }: Finding): boolean {
  return kind.startsWith('left-') || kind === 'backing-busy';
}

/** Text that came from a test or a guest, fit to be shown anywhere. */
export function presentable(text: string): string {
  return neutraliseCommands(cleanText(text)).trimEnd();
}

function joined(findings: readonly Finding[]): string {
  return findings.map((finding) => presentable(finding.message)).join('\n');
}
