import { cleanLine } from '#runner/lib/clean-text.ts';
import type { Report } from '#runner/report/report.ts';
import { brokenSince, isOpen, isRed } from './decide.ts';
import type { GatePatch, GateResult } from './gate-schema.ts';
import { headline } from './render-gate.ts';

/**
 * One entry of what `b4 review` takes from a check command: a JSON array on standard output. `status` is one of
 * pass, warn and fail; `tool` tells entries of one message apart.
 */
export interface B4Check {
  readonly tool: string;
  readonly status: 'pass' | 'warn' | 'fail';
  readonly summary: string;
  readonly url: string;
  readonly details: string;
}

/** The series first, then every patch. Pure. */
export function renderB4(report: Report): readonly B4Check[] {
  const { gate, failure, verdict, counts } = report;
  if (gate === null) {
    const summary = failure === null ? 'no verdict' : cleanLine(`${failure.code}: ${failure.message}`);
    const status = failure?.blame === 'series' || failure?.blame === 'kernel' ? 'fail' : 'warn';
    return [{ tool: 'fusegate', status, summary, url: '', details: failure?.hint ?? '' }];
  }
  const series: B4Check = {
    tool: 'fusegate',
    status: { pass: 'pass', fail: 'fail', inconclusive: 'warn' }[verdict] as B4Check['status'],
    summary: `${headline(gate, verdict)}: ${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped`,
    url: '',
    details: JSON.stringify([
      ...gate.patches.flatMap((patch) => missing(patch, gate)),
      ...findings(gate, () => true),
    ]),
  };
  // One version against another says nothing about single patches.
  if (gate.against !== null) return [{ ...series, tool: cleanLine(`fusegate against ${gate.against.name}`) }];
  return [series, ...gate.patches.map((patch) => patchCheck(patch, gate))];
}

function patchCheck(patch: GatePatch, gate: GateResult): B4Check {
  const mine = (first: number, last: number): boolean => first <= patch.index && patch.index <= last;
  const red = gate.verdicts.filter(
    (verdict) => isRed(verdict) && mine(verdict.patch?.first ?? 0, verdict.patch?.last ?? 0),
  );
  const failed = patch.state === 'not-built' || patch.state === 'not-applied' || red.length > 0;
  const doubtful = patch.state === 'not-run' || patch.warnings.length + patch.lostSymbols.length > 0;
  const warned =
    patch.warnings.length === 0
      ? ''
      : `, ${patch.warnings.length} new compiler ${patch.warnings.length === 1 ? 'warning' : 'warnings'}`;
  const broken =
    red.length === 0 ? 'no regression' : `breaks ${red.length} ${red.length === 1 ? 'test' : 'tests'}`;
  return {
    tool: `fusegate ${patch.index}/${gate.series.count}`,
    status: failed ? 'fail' : doubtful ? 'warn' : 'pass',
    summary: stateOf(patch, gate) ?? `${broken}${warned}`,
    url: '',
    details: JSON.stringify([
      ...patch.warnings.map((description) => ({ status: 'warn', description: cleanLine(description) })),
      ...patch.advice.map(({ source, text }) => ({
        status: 'warn',
        description: cleanLine(`${source}: ${text}`),
      })),
      ...findings(gate, mine),
    ]),
  };
}

/** Why a patch has no kernel. */
function stateOf(patch: GatePatch, gate: GateResult): string | undefined {
  const { index, state, message } = patch;
  const since = brokenSince(patch, gate);
  switch (state) {
    case 'built':
      return undefined;
    case 'not-built':
      if (since !== index) return `still does not build, see patch ${since}`;
      return cleanLine(`does not build: ${message ?? ''}`);
    case 'not-applied':
      return cleanLine(`does not apply: ${message ?? ''}`);
    case 'not-run':
      return 'not built: the time was over';
  }
}

function missing(patch: GatePatch, gate: GateResult): readonly Finding[] {
  const state = stateOf(patch, gate);
  if (state === undefined) return [];
  const status = patch.state === 'not-run' ? 'warn' : 'fail';
  return [{ status, description: cleanLine(`patch ${patch.index} ${state}`) }];
}

interface Finding {
  readonly status: 'fail' | 'warn';
  readonly description: string;
}

/** In the shape that b4's own checkpatch entry has. */
function findings(gate: GateResult, mine: (first: number, last: number) => boolean): readonly Finding[] {
  return gate.verdicts
    .filter((verdict) => isRed(verdict) || isOpen(verdict))
    .filter(({ patch }) => patch === null || mine(patch.first, patch.last))
    .map((verdict) => ({
      status: isRed(verdict) ? 'fail' : 'warn',
      description: cleanLine(
        `${verdict.kind}${verdict.patch === null ? '' : ` by patch ${verdict.patch.last}`}: ${verdict.fault?.title ?? ''} ${verdict.test}`,
      ),
    }));
}
