import { cleanLine } from '#runner/lib/clean-text.ts';
import { Failure } from '#runner/lib/failure.ts';
import { formatDuration } from '#runner/report/format.ts';
import type { Report } from '#runner/report/report.ts';
import type { GateResult, GateVerdict } from './gate-schema.ts';
import { percent } from './render-gate.ts';
import { saidLines } from './said.ts';
import { wrap } from './wrap.ts';

/** Of what one failed test said. */
const MESSAGE_LINES = 20;

/** Why the verdict on a test is what it is: what ran where, how often, and what that proves. Pure. */
export function explain(report: Report, test: string): string {
  const { gate } = report;
  const found = gate?.verdicts.filter((verdict) => verdict.test === test || verdict.id === test) ?? [];
  const matching = found.length > 0 ? found : (gate?.verdicts.filter(({ id }) => id.includes(test)) ?? []);
  if (gate === null || matching.length === 0) {
    throw new Failure('E_NO_TESTS', 'user', `the gate has no verdict on ${JSON.stringify(test)}`, {
      hint: 'name a test as the report does, or a part of its id',
    });
  }
  return `${matching.map((verdict) => explainOne(verdict, gate)).join('\n\n')}\n`;
}

function explainOne(verdict: GateVerdict, gate: GateResult): string {
  const { id, kind, confirmed, odds, patch, mendedBy, message } = verdict;
  const verdictLine = `${kind}${patch === null ? '' : ` ${cause(patch, gate)}`}${mendedBy === null ? '' : `, mended by patch ${mendedBy}`}${confirmed ? '' : ', not confirmed'}`;
  const steps = gate.steps.filter(({ wanted }) => wanted === 'all' || wanted.includes(verdict.test));
  return [
    ...wrap(cleanLine(id)),
    `  ${verdictLine}`,
    ...verdict.runs.map(
      (counts) => `  ${place(counts.patch, gate)}: passed ${counts.passes} of ${counts.runs} runs`,
    ),
    ...(odds === null ? [] : wrap(oddsText(odds), '  ')),
    ...(message === null ? [] : saidLines(message, '  ', MESSAGE_LINES)),
    '  how:',
    ...steps.flatMap((step) =>
      wrap(
        `${place(step.patch, gate)}, ${step.times}x, ${step.cached ? 'known from an earlier gate' : formatDuration(step.durationMs)}: ${step.why}`,
        '    ',
        '      ',
      ),
    ),
    ...verdict.evidence.flatMap(({ label, path }) => [`  ${label}: ${path}`]),
  ].join('\n');
}

function cause({ first, last }: NonNullable<GateVerdict['patch']>, { against }: GateResult): string {
  if (against !== null) return `since ${cleanLine(against.name)}`;
  return first === last ? `by patch ${last}` : `by one of patches ${first} to ${last}`;
}

function oddsText(odds: number): string {
  return `If the patch changed nothing, a difference like this would show up with odds of ${percent(odds)} (Fisher's exact test on the runs after the first on each side, times three looks).`;
}

function place(patch: number, { series, against }: GateResult): string {
  if (against !== null) return cleanLine(patch === 0 ? against.name : series.name);
  return patch === 0 ? 'base' : `patch ${patch}/${series.count}`;
}
