import { cleanLine } from '#runner/lib/clean-text.ts';
import type { Report } from '#runner/report/report.ts';
import { brokenBy, isRed } from './decide.ts';
import type { GateVerdict } from './gate-schema.ts';

/** KTAP version 1: one point per patch, with what it broke below it, then one per test. Pure. */
export function renderKtap({ gate, failure }: Report): string {
  if (gate === null) {
    return ['KTAP version 1', '1..0', `Bail out! ${cleanLine(failure?.message ?? 'no verdict')}`, ''].join(
      '\n',
    );
  }
  const { patches, verdicts } = gate;
  const lines = ['KTAP version 1', `1..${patches.length + verdicts.length}`];
  for (const patch of patches) {
    const { index, subject, state, message } = patch;
    const broken = brokenBy(patch, gate);
    for (const { id } of broken) lines.push(`# broken by ${index}: ${plain(id)}`);
    if (message !== null) lines.push(`# ${plain(message)}`);
    const skip = state === 'not-run' ? ' # SKIP not built' : '';
    const ok = state === 'built' ? broken.length === 0 : state === 'not-run';
    lines.push(`${ok ? 'ok' : 'not ok'} ${index} patch ${index}: ${plain(subject)}${skip}`);
  }
  for (const [at, verdict] of verdicts.entries()) {
    lines.push(
      ...whyRed(verdict),
      `${isRed(verdict) ? 'not ok' : 'ok'} ${patches.length + at + 1} ${plain(verdict.id)}${directive(verdict)}`,
    );
  }
  return `${lines.join('\n')}\n`;
}

/** Diagnostics stand before the point that they are about. */
function whyRed(verdict: GateVerdict): readonly string[] {
  if (!isRed(verdict)) return [];
  const { patch, base, patched, message } = verdict;
  const counts = `passed ${base.passes} of ${base.runs} runs before, ${patched.passes} of ${patched.runs} after`;
  const said = (message ?? '').split('\n').filter((line) => line.trim() !== '');
  return [
    `# regressed by patch ${patch?.last ?? '?'}: ${counts}`,
    ...said.slice(0, 6).map((line) => `# ${plain(line)}`),
  ];
}

function directive({ kind }: GateVerdict): string {
  switch (kind) {
    case 'skipped':
    case 'not-run':
    case 'infra':
    case 'flaky':
      return ` # SKIP ${kind}`;
    case 'pre-existing':
    case 'known-failure':
      return ` # XFAIL ${kind}`;
    default:
      return '';
  }
}

function plain(text: string): string {
  return cleanLine(text).replaceAll('#', String.raw`\#`);
}
