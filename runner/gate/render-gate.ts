import { formatDuration } from '#runner/report/format.ts';
import { brokenSince, isOpen, isRed } from './decide.ts';
import type { GatePatch, GateResult, GateVerdict } from './gate-schema.ts';
import { BOOT } from './sample.ts';
import { renderAgainst } from './render-against.ts';
import { saidLines, shown } from './said.ts';
import { cut, wrap } from './wrap.ts';

export interface GateText {
  readonly gate: GateResult;
  readonly verdict: 'pass' | 'fail' | 'inconclusive';
  readonly kernels: readonly { readonly release: string; readonly accelerator: string | null }[];
  readonly totalMs: number;
  readonly counts: { readonly passed: number; readonly failed: number; readonly skipped: number };
}

/** More of a kind are counted, not listed. */
const LISTED = 10;

/** Of what one failed test said. */
const MESSAGE_LINES = 6;

/** The gate in at most 72 columns, ready to be pasted into a reply. Pure. */
export function renderGate(text: GateText): string {
  const { gate, verdict, kernels, totalMs, counts } = text;
  const base = kernels[0];
  const machine = base === undefined ? '' : ` (${base.release}, ${base.accelerator ?? 'not run'})`;
  return [
    ...wrap(`fusegate: ${headline(gate, verdict)}: ${shown(gate.series.title)}`, '', '  '),
    ...(gate.against === null
      ? wrap(
          `${gate.series.count} ${gate.series.count === 1 ? 'patch' : 'patches'} on ${shown(gate.base)}${machine}`,
          '',
          '  ',
        )
      : renderAgainst(gate, gate.against, machine)),
    '',
    ...gate.patches.flatMap((patch) => renderPatch(patch, gate)),
    '',
    ...section('Regressions', gate.verdicts.filter(isRed), gate, describe),
    ...section(
      'Unconfirmed',
      gate.verdicts.filter((v) => v.kind === 'regressed' && !isRed(v)),
      gate,
      describe,
    ),
    ...section(
      'Fixed',
      gate.verdicts.filter(({ kind }) => kind === 'fixed'),
      gate,
      describe,
    ),
    ...section(
      'Flaky, no verdict',
      gate.verdicts.filter(({ kind }) => kind === 'flaky'),
      gate,
      describe,
    ),
    ...section(
      'No verdict',
      gate.verdicts.filter((v) => isOpen(v) && v.kind !== 'regressed'),
      gate,
      name,
    ),
    ...section(
      'Failing before the series, too',
      gate.verdicts.filter(({ kind }) => kind === 'pre-existing'),
      gate,
      name,
    ),
    ...section(
      'Known failures',
      gate.verdicts.filter(({ kind }) => kind === 'known-failure'),
      gate,
      name,
    ),
    ...renderAdvice(gate),
    ...renderNotes(gate),
    ...wrap(effort(gate, totalMs)),
    `${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped`,
    '',
  ].join('\n');
}

/** `REGRESSION`, `no regression` and the like. Pure. */
export function headline({ patches, verdicts }: GateResult, verdict: GateText['verdict']): string {
  if (verdict !== 'fail') return verdict === 'pass' ? 'no regression' : 'no verdict';
  const has = (state: GatePatch['state']): boolean => patches.some((patch) => patch.state === state);
  const parts = [
    ...(has('not-applied') ? ['DOES NOT APPLY'] : []),
    ...(has('not-built') ? ['DOES NOT BUILD'] : []),
    ...(verdicts.some(isRed) ? ['REGRESSION'] : []),
  ];
  return parts.join(', ');
}

function renderPatch(patch: GatePatch, gate: GateResult): readonly string[] {
  const width = String(gate.series.count).length;
  const number = `${String(patch.index).padStart(width)}/${gate.series.count} `;
  const head = `${gate.against === null ? number : ''}${shown(patch.subject)}`;
  const indent = ' '.repeat(width * 2 + 2);
  return [
    cut(head),
    ...wrap(patchState(patch, gate), indent),
    ...patch.warnings
      .slice(0, 3)
      .flatMap((warning) => wrap(`new warning: ${shown(warning)}`, indent, `${indent}  `)),
    ...(patch.lostSymbols.length === 0
      ? []
      : wrap(`lost: ${patch.lostSymbols.map((symbol) => `CONFIG_${symbol}`).join(', ')}`, indent)),
  ];
}

function patchState(patch: GatePatch, gate: GateResult): string {
  const since = brokenSince(patch, gate);
  switch (patch.state) {
    case 'not-built':
      if (since !== patch.index) return `still does not build, see patch ${since}`;
      return `DOES NOT BUILD: ${shown(patch.message ?? '').replace(/^the kernel build failed: /, '')}`;
    case 'not-applied':
      return notApplied(patch, gate);
    case 'not-run':
      return 'not built: the time was over';
    case 'built':
      return testState(patch, gate);
  }
}

/** What is known of the patch from the line above is left out; those after it were never tried. */
function notApplied({ index, message }: GatePatch, { patches }: GateResult): string {
  const first = patches.find(({ state }) => state === 'not-applied')?.index ?? index;
  if (first !== index) return `not tried: patch ${first} does not apply`;
  const said = shown(message ?? '');
  const where = /^patch \d+\/\d+ \(.*\) does not apply to (.+)$/.exec(said)?.[1];
  return where === undefined ? `DOES NOT APPLY: ${said}` : `DOES NOT APPLY to ${where}`;
}

function testState({ index, sameAs }: GatePatch, { verdicts, against }: GateResult): string {
  const here = sameAs ?? index;
  const base = against === null ? 'the base' : shown(against.name);
  const same = sameAs === null ? '' : `same kernel as ${sameAs === 0 ? base : `patch ${sameAs}`}: `;
  const broken = verdicts.filter((verdict) => isRed(verdict) && isAt(verdict, here));
  const state = broken.length > 0 ? brokenState(broken, here, sameAs === null) : wellState(verdicts, here);
  return `${same}${state}`;
}

/** `own`: the patch has a kernel of its own, and so can be where something began. */
function brokenState(broken: readonly GateVerdict[], here: number, own: boolean): string {
  const boot = broken.find(({ id }) => id === BOOT);
  const began = own ? broken.filter(({ patch }) => patch?.last === here) : [];
  if (boot !== undefined) {
    return began.includes(boot)
      ? `DOES NOT BOOT: ${shown(boot.message ?? '')}`
      : `does not boot, see patch ${boot.patch?.last ?? '?'}`;
  }
  return began.length > 0 ? `BREAKS ${tests(began.length)}` : `${tests(broken.length)} still broken`;
}

function wellState(verdicts: readonly GateVerdict[], here: number): string {
  const ran = verdicts.filter(({ runs }) => runs.some(({ patch }) => patch === here));
  if (ran.length === 0) return 'builds; not booted';
  const count = ran.filter(({ id }) => id !== BOOT).length;
  return `ok (${count === 0 ? 'boots' : `${tests(count)} run`})`;
}

/** The regression is there after this patch. */
function isAt({ patch, mendedBy }: GateVerdict, index: number): boolean {
  return patch !== null && patch.last <= index && (mendedBy === null || index < mendedBy);
}

function section(
  title: string,
  verdicts: readonly GateVerdict[],
  gate: GateResult,
  line: (verdict: GateVerdict, gate: GateResult) => readonly string[],
): readonly string[] {
  if (verdicts.length === 0) return [];
  const rest = verdicts.length - LISTED;
  return [
    `${title}:`,
    ...verdicts.slice(0, LISTED).flatMap((verdict) => line(verdict, gate)),
    ...(rest > 0 ? [`  and ${rest} more`] : []),
    '',
  ];
}

function name({ id, test, fault }: GateVerdict): readonly string[] {
  return wrap(shown(fault === null || id === test ? id : `${test}: ${fault.title}`), '  ', '    ');
}

function describe(verdict: GateVerdict, gate: GateResult): readonly string[] {
  const { base, patched, odds, message, mendedBy } = verdict;
  const by = verdict.patch === null ? '' : `${patchName(verdict.patch, gate)}; `;
  const mended = mendedBy === null ? '' : `, mended by patch ${mendedBy}`;
  const what = verdict.kind === 'fixed' ? 'that it is chance' : 'of a false blame';
  const chance = odds === null ? '' : `, odds ${what} ${percent(odds)}`;
  const counts = `${base.passes} of ${base.runs} runs passed before, ${patched.passes} of ${patched.runs} after`;
  const why = verdict.kind === 'fixed' || message === null ? [] : saidLines(message, '    ', MESSAGE_LINES);
  return [...name(verdict), ...wrap(`${by}${counts}${chance}${mended}`, '    '), ...why];
}

function patchName({ first, last }: { first: number; last: number }, { against }: GateResult): string {
  if (against !== null) return `since ${shown(against.name)}`;
  if (first !== last) return `one of patches ${first} to ${last}`;
  return `patch ${last}`;
}

export function percent(odds: number): string {
  if (odds < 0.0001) return 'below 0.01 %';
  return odds < 0.1 ? `${(odds * 100).toFixed(2)} %` : `${Math.round(odds * 100)} %`;
}

function renderAdvice({ patches }: GateResult): readonly string[] {
  const lines = patches.flatMap(({ index, advice }) =>
    advice.map(({ source, text }) => wrap(`${index}: ${source}: ${shown(text)}`, '  ', '     ')),
  );
  if (lines.length === 0) return [];
  const rest = lines.length - LISTED;
  return [
    'Advice, no reason to fail:',
    ...lines.slice(0, LISTED).flat(),
    ...(rest > 0 ? [`  and ${rest} more`] : []),
    '',
  ];
}

function renderNotes({ notes }: GateResult): readonly string[] {
  if (notes.length === 0) return [];
  return ['Notes:', ...notes.flatMap((note) => wrap(shown(note), '  ', '    ')), ''];
}

function effort({ steps, outOfTime }: GateResult, totalMs: number): string {
  const cached = steps.filter((step) => step.cached).length;
  const share = cached === steps.length ? 'all' : `${cached} of them`;
  const known = cached === 0 ? '' : `, ${share} known from before`;
  const time = outOfTime ? '; the time was over, the same command goes on' : '';
  return `${steps.length} ${steps.length === 1 ? 'run' : 'runs'} of kernels${known}, ${formatDuration(totalMs)}${time}`;
}

function tests(count: number): string {
  return count === 1 ? '1 test' : `${count} tests`;
}
