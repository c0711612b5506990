import { cleanLine } from '#runner/lib/clean-text.ts';
import type { Mutant } from './mutants.ts';
import type { MutantResult } from './record.ts';

export interface Row {
  readonly mutant: Mutant;
  readonly result: MutantResult | undefined;
}

export interface Score {
  readonly noticed: number;
  /** Of those that can be noticed. */
  readonly of: number;
  readonly equivalent: number;
}

/** Pure. Mistakes that were not tried do not count. */
export function scoreOf(rows: readonly Row[]): Score {
  const tried = rows.filter(({ result }) => result !== undefined);
  const noticed = tried.filter(({ result }) => result?.outcome === 'noticed').length;
  const equivalent = tried.filter(
    ({ mutant, result }) => mutant.equivalent !== undefined && result?.outcome !== 'noticed',
  ).length;
  return { noticed, of: tried.length - equivalent, equivalent };
}

/** Below this, the table of docs/mutants.md is made. */
export const TABLE_MARK = '<!-- made by `npx fusegate mutants --record` -->';

/** A table by file. Pure. */
export function renderMutants(rows: readonly Row[], kernel: string): string {
  const { noticed, of, equivalent } = scoreOf(rows);
  const earlier = rows.filter(({ mutant, result }) => result === undefined && mutant.noticedBy.length > 0);
  const files = [...new Set(rows.map(({ mutant }) => mutant.file))];
  const lines = [
    TABLE_MARK,
    '',
    `Linux ${kernel}: **${noticed} of ${of}** mistakes are noticed (${percent(noticed, of)}); ${equivalent} more cannot be.${earlier.length === 0 ? '' : ` ${earlier.length} that were not tried this time had been noticed before.`}`,
    '',
  ];
  for (const file of files) {
    const of = rows.filter(({ mutant }) => mutant.file === file);
    const { noticed: here, of: all } = scoreOf(of);
    lines.push(
      `### ${file}${all === 0 ? '' : `: ${here} of ${all}`}`,
      '',
      '| no. | what is wrong | noticed by | its message |',
    );
    lines.push('| --- | --- | --- | --- |', ...of.map(renderRow), '');
  }
  return lines.join('\n');
}

function renderRow({ mutant, result }: Row): string {
  const cells = [String(mutant.number), mutant.what, ...byWhom(mutant, result)];
  return `| ${cells.map(cell).join(' | ')} |`;
}

function byWhom(
  { equivalent, noticedBy: [before] }: Mutant,
  result: MutantResult | undefined,
): readonly [string, string] {
  switch (result?.outcome) {
    case undefined:
      return before === undefined ? ['not tried', ''] : [before, 'not tried this time'];
    case 'noticed':
      return [result.by ?? 'the machine', withoutPlace(result.message ?? '')];
    case 'survived':
    case 'unreached':
      if (equivalent !== undefined) return ['cannot be noticed', equivalent];
      return ['**nobody**', result.outcome === 'unreached' ? 'no test gets there' : ''];
    case 'no-verdict':
      return ['no verdict', result.message ?? ''];
  }
}

/** Where in which file somebody's checkout has the test is not for a page. */
function withoutPlace(message: string): string {
  return message.replaceAll(/\s*\bat file:\/\/\S+/g, '');
}

/** The longest message in a table. */
const MESSAGE_CHARACTERS = 160;

function cell(text: string): string {
  return cleanLine(text, MESSAGE_CHARACTERS)
    .replaceAll('|', String.raw`\|`)
    .replaceAll(/[<>]/g, ' ');
}

function percent(part: number, whole: number): string {
  // 100 is for all of them.
  return whole === 0 ? 'none tried' : `${Math.floor((part / whole) * 100)} %`;
}
