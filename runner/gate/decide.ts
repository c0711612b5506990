import type { ExitCode } from '#runner/lib/failure.ts';
import { ExitCode as Code } from '#runner/lib/failure.ts';
import type { GatePatch, GateResult, GateVerdict } from './gate-schema.ts';

/** A regression that the evidence suffices for. */
export function isRed(verdict: Pick<GateVerdict, 'kind' | 'confirmed'>): boolean {
  return verdict.kind === 'regressed' && verdict.confirmed;
}

/** The regressions that begin with a patch. */
export function brokenBy(
  { index }: Pick<GatePatch, 'index'>,
  { verdicts }: Pick<GateResult, 'verdicts'>,
): readonly GateVerdict[] {
  return verdicts.filter((verdict) => isRed(verdict) && verdict.patch?.last === index);
}

/**
 * The patch since which there is no kernel for the same reason: later patches that do not mend it say no more.
 * `index` itself where the reason is its own.
 */
export function brokenSince(
  { index, state, message }: Pick<GatePatch, 'index' | 'state' | 'message'>,
  { patches }: Pick<GateResult, 'patches'>,
): number {
  const before = patches.find((patch) => patch.index === index - 1);
  return before?.state === state && before.message === message ? brokenSince(before, { patches }) : index;
}

/** Nobody knows yet. */
export function isOpen(verdict: Pick<GateVerdict, 'kind' | 'confirmed'>): boolean {
  return verdict.kind === 'infra' || verdict.kind === 'not-run' || !verdict.confirmed;
}

export function decideGate(gate: GateResult): 'pass' | 'fail' | 'inconclusive' {
  const bad = gate.patches.some(({ state }) => state === 'not-built' || state === 'not-applied');
  if (bad || gate.verdicts.some(isRed)) return 'fail';
  const open = gate.patches.some(({ state }) => state === 'not-run') || gate.verdicts.some(isOpen);
  return open || gate.outOfTime || gate.verdicts.length === 0 ? 'inconclusive' : 'pass';
}

/** The contract's: a patch that does not apply or build is said before what the others do. */
export function gateExitCode(gate: GateResult): ExitCode {
  const bad = gate.patches.some(({ state }) => state === 'not-built' || state === 'not-applied');
  if (bad) return Code.build;
  const verdict = decideGate(gate);
  if (verdict === 'fail') return Code.kernelFailed;
  return verdict === 'pass' ? Code.passed : Code.infrastructure;
}
