import { failureOf, workflowErrors, type Annotation } from '#runner/report/render-annotations.ts';
import type { Report } from '#runner/report/report.ts';
import { brokenSince, isRed } from './decide.ts';
import type { GatePatch, GateResult, GateVerdict } from './gate-schema.ts';

/** One error for each thing that a patch broke, and none for what was so before. Pure. */
export function renderGateAnnotations(report: Report): string {
  const { gate } = report;
  if (gate === null) return workflowErrors(failureOf(report));
  return workflowErrors([
    ...failureOf(report),
    ...gate.patches.flatMap((patch) => ofPatch(patch, gate)),
    ...gate.verdicts.filter(isRed).map((verdict) => ofVerdict(verdict, gate)),
  ]);
}

function ofPatch(patch: GatePatch, gate: GateResult): readonly Annotation[] {
  const { state, index, message } = patch;
  if (state !== 'not-built' && state !== 'not-applied') return [];
  if (brokenSince(patch, gate) !== index) return [];
  const what = state === 'not-built' ? 'does not build' : 'does not apply';
  return [{ title: `${nameOf(index, gate)} ${what}`, message: message ?? '' }];
}

function ofVerdict({ id, patch, message }: GateVerdict, gate: GateResult): Annotation {
  const by = patch === null ? 'the series' : nameOf(patch.last, gate);
  return { title: `${by} breaks ${id}`, message: message ?? 'it passed before' };
}

/** In a comparison of two versions there is one change, and it is the whole of the newer one. */
function nameOf(index: number, { against, patches, series }: GateResult): string {
  const subject = patches.find((patch) => patch.index === index)?.subject ?? '';
  return against === null ? `patch ${index}/${series.count} (${subject})` : subject;
}
