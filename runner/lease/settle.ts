import { beforeDeadline } from '#runner/lib/deadline.ts';
import type { Emit } from '#runner/lib/events.ts';
import type { Evidence } from '#runner/lib/failure.ts';
import { Failure } from '#runner/lib/failure.ts';
import { cleanLine } from '#runner/lib/clean-text.ts';
import type { Guest } from '#runner/guest/guest.ts';
import type { Machine } from '#runner/machine/machine.ts';
import type { LeaseOutcome } from '#runner/verdict/judge-test.ts';
import type { KernelFault } from '#runner/verdict/kernel-log.ts';
import { recogniseFaults } from '#runner/verdict/kernel-log.ts';
import { lostKind } from '#runner/verdict/lost-kind.ts';
import { dumpMemoryOf } from './dump-memory.ts';
import { examineGuest, notTheKernel, type Examination } from './examine.ts';
import { writeEvidence } from './evidence-files.ts';
import type { Finding } from './messages.ts';
import type { ResetReport } from './reset-report.ts';
import {
  findLeftovers,
  kernelLogLines,
  reasonToReplace,
  requestLines,
  resetReportSchema,
} from './reset-report.ts';

export interface SettleOptions {
  readonly guest: Guest;
  readonly test: string;
  readonly out: string;
  readonly emit: Emit;
  /** Console offset and taint mask when the test began. */
  readonly consoleFrom: number;
  readonly taintBefore: number;
  readonly startedAt: number;
  readonly passed: boolean;
  readonly timedOut: boolean;
  readonly skipReason: string | null;
  /** Before the machine's slowdown. Milliseconds. */
  readonly resetDeadlineMs: number;
  /** Why a complaint of the kernel is nothing against the test, if it is known. */
  readonly excuse?: ((fault: KernelFault) => string | undefined) | undefined;
  readonly signal: AbortSignal;
  readonly keepEvidence: boolean;
  /** Of a machine that hangs. */
  readonly dumpMemory: boolean;
}

export interface Settled {
  readonly outcome: LeaseOutcome;
  /** The machine must not be used again. */
  readonly dirty: boolean;
}

/** How long a broken channel may be older than the machine's own word about its end. Milliseconds. */
const LOST_NEWS_MS = 5000;

/** The end of a lease: the guest is cleaned, asked what was left, and its log is read. Never throws a Failure. */
export async function settle(options: SettleOptions): Promise<Settled> {
  const { guest } = options;
  const durationMs = Math.round(performance.now() - options.startedAt);
  const reset = await resetGuest(guest, options.resetDeadlineMs, options.signal);
  const gone = reset instanceof Failure ? reset : null;
  const report = reset instanceof Failure ? undefined : reset;

  const showed = await whatItShowed(options, report, gone);
  const { faults, examined } = showed;
  const lost = (examined === null ? undefined : notTheKernel(guest.machine, examined.silent)) ?? gone;
  const excuses = excusesOf(faults, options.excuse);
  const findings = [
    ...(lost === null ? [] : [lostFinding(lost, examined)]),
    ...complaintsOf(faults, excuses),
    ...(report === undefined ? [] : findLeftovers(report, options.taintBefore)),
  ];
  const amiss = findings.length > 0 || faults.length > 0;
  const evidence = [...(await keptOf(options, showed, report, amiss)), ...(lost?.evidence ?? [])];
  const suspect = isSuspect(guest.machine, faults);
  if (!suspect) emitFaults(options, faults, lost, evidence);
  const machine = guest.machine.id;
  const replace = findings.length === 0 && tellReplaced(options, report);
  return {
    outcome: {
      machine,
      durationMs,
      findings,
      excused: [...excuses].map(([{ title }, why]) => `${why}\n${cleanLine(title)}`),
      evidence,
      lost,
      suspect,
      skipReason: options.skipReason,
      timedOut: options.timedOut,
    },
    dirty: amiss || replace,
  };
}

async function keptOf(
  { test, out, keepEvidence, passed }: SettleOptions,
  showed: Showed,
  report: ResetReport | undefined,
  amiss: boolean,
): Promise<readonly Evidence[]> {
  const wanted = keepEvidence || !passed || amiss;
  const files = wanted ? await writeEvidence(out, test, showedLines(showed, report)) : [];
  return showed.dump === null ? files : [...files, showed.dump];
}

function excusesOf(
  faults: readonly KernelFault[],
  excuse: SettleOptions['excuse'],
): ReadonlyMap<KernelFault, string> {
  const excuses = new Map<KernelFault, string>();
  for (const fault of faults) {
    const why = excuse?.(fault);
    if (why !== undefined) excuses.set(fault, why);
  }
  return excuses;
}

function complaintsOf(
  faults: readonly KernelFault[],
  excuses: ReadonlyMap<KernelFault, string>,
): readonly Finding[] {
  return faults
    .filter((fault) => !excuses.has(fault))
    .map(({ title }) => ({ kind: 'kernel-log', message: cleanLine(title) }));
}

/** Whether the machine has more in it than a test may leave, although nothing is proved against this one. */
function tellReplaced({ guest, test, emit }: SettleOptions, report: ResetReport | undefined): boolean {
  const reason = report === undefined ? null : reasonToReplace(report);
  if (reason === null) return false;
  emit({ type: 'note', text: `${guest.machine.id} is replaced after ${cleanLine(test)}: ${reason}` });
  return true;
}

interface Showed {
  readonly console: readonly string[];
  readonly kernelLog: readonly string[];
  readonly faults: readonly KernelFault[];
  /** Of a machine that could not be cleaned. */
  readonly examined: Examination | null;
  /** The guest's memory, where it was asked for. */
  readonly dump: Evidence | null;
}

function showedLines(
  { console, kernelLog, examined }: Showed,
  report: ResetReport | undefined,
): Parameters<typeof writeEvidence>[2] {
  const requests = report === undefined ? [] : requestLines(report);
  return { console, kernelLog, requests, machine: examined?.lines };
}

/** The console and the kernel's log since the test began, and what a hung machine says when it is asked. */
async function whatItShowed(
  { guest, consoleFrom, dumpMemory, out, emit }: SettleOptions,
  report: ResetReport | undefined,
  lost: Failure | null,
): Promise<Showed> {
  const readConsole = (): Promise<readonly string[]> =>
    guest.machine.consoleSince(consoleFrom).catch(() => []);
  const console = await readConsole();
  const kernelLog = report === undefined ? [] : kernelLogLines(report);
  const faults = recogniseFaults([...kernelLog, '', ...console]);
  if (lost?.code !== 'E_GUEST_HUNG') return { console, kernelLog, faults, examined: null, dump: null };
  // Before the machine goes. The stacks that the kernel prints then are evidence and no fault.
  const examined = await examineGuest(guest);
  const dump = dumpMemory ? await dumpMemoryOf(guest.machine, out, emit) : null;
  return { console: await readConsole(), kernelLog, faults, examined, dump };
}

/** @returns what the agent found, or why the machine is of no use any more. */
export async function resetGuest(
  guest: Guest,
  deadlineMs: number,
  signal: AbortSignal,
): Promise<ResetReport | Failure> {
  if (isOver(signal)) return interrupted(signal);
  const timeoutMs = Math.round(deadlineMs * guest.slowdown);
  const call = guest.call('reset', { deadlineMs: Math.round(timeoutMs / 2) }, { timeoutMs, signal });
  // The machine's end may be known before the channel notices.
  call.catch(() => undefined);
  try {
    const answer = await Promise.race([call, guest.machine.lost]);
    return answer instanceof Failure ? answer : resetReportSchema.parse(answer);
  } catch (error) {
    if (isOver(signal)) return interrupted(signal);
    return (
      (await beforeDeadline(guest.machine.lost, LOST_NEWS_MS, () => undefined)) ?? hung(guest.machine, error)
    );
  }
}

function isOver(signal: AbortSignal): boolean {
  return signal.aborted;
}

function interrupted({ reason }: AbortSignal): Failure {
  return reason instanceof Failure
    ? reason
    : new Failure('E_INTERRUPTED', 'interrupted', 'the run was interrupted', { cause: reason });
}

function hung(machine: Machine, cause: unknown): Failure {
  if (cause instanceof Failure && cause.code !== 'E_CALL_TIMEOUT') return cause;
  const why = cause instanceof Error ? cleanLine(cause.message) : 'no answer';
  return new Failure('E_GUEST_HUNG', 'kernel', `${machine.id} could not be cleaned after the test: ${why}`, {
    hint: 'a process is probably stuck in the kernel; the console and the kernel log tell where',
    evidence: [{ label: 'whole console', path: machine.consolePath }],
    cause,
  });
}

function lostFinding(lost: Failure, examined: Examination | null): Finding {
  const more = examined === null ? '' : `; ${examined.summary}`;
  return { kind: 'machine-lost', message: cleanLine(`${lost.message}${more}`) };
}

function isSuspect(machine: Machine, faults: readonly KernelFault[]): boolean {
  return machine.accelerator === 'tcg' && faults.length > 0 && faults.every((fault) => fault.emulatorSuspect);
}

function emitFaults(
  { guest, test, emit }: SettleOptions,
  faults: readonly KernelFault[],
  lost: Failure | null,
  evidence: readonly Evidence[],
): void {
  const machine = guest.machine.id;
  for (const { kind, title, fingerprint } of faults) {
    emit({ type: 'kernel-fault', machine, kind, title: cleanLine(title), fingerprint, test, evidence });
  }
  if (lost?.blame !== 'kernel' || faults.length > 0) return;
  const title = cleanLine(lost.message);
  emit({
    type: 'kernel-fault',
    machine,
    kind: lostKind(lost),
    title,
    fingerprint: lost.code,
    test,
    evidence,
  });
}
