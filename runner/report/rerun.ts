import { exactMatch } from '#runner/ava/test-id.ts';
import type { Report, ReportTest } from './report.ts';

/** What of a config makes the same kernel and machine again. */
export interface SameRun {
  readonly profile: string;
  readonly series: string | null;
  readonly patches: number | null;
  readonly tree: string | null;
  readonly base: string | null;
  readonly kernel: string | null;
  readonly fragments: readonly string[];
  readonly append: string;
  readonly accelerator: 'auto' | 'kvm' | 'tcg';
}

export function rerunCommand(same: SameRun): string {
  const options: readonly (readonly [string, string | null])[] = [
    ['--profile', same.profile],
    ['--series', same.series],
    ['--patches', same.patches === null ? null : String(same.patches)],
    ['--tree', same.tree],
    ['--base', same.base],
    ['--kernel', same.kernel],
    ...same.fragments.map((fragment) => ['--config', fragment] as const),
    ['--append', same.append === '' ? null : same.append],
    ['--accel', same.accelerator === 'auto' ? null : same.accelerator],
  ];
  const words = options.flatMap(([option, value]) => (value === null ? [] : [option, shellWord(value)]));
  return ['npx fusegate run', ...words].join(' ');
}

/** The command that runs just this test again. */
export function rerunTest(report: Pick<Report, 'rerun'>, test: Pick<ReportTest, 'area' | 'title'>): string {
  return `${report.rerun} --suite ${shellWord(test.area)} --match ${quoted(exactMatch(test.title))}`;
}

export function shellWord(word: string): string {
  return /^[\w@%+=:,./~-]+$/.test(word) && !word.startsWith('~') ? word : quoted(word);
}

function quoted(word: string): string {
  return `'${word.replaceAll("'", String.raw`'\''`)}'`;
}

/** The options of a command that `rerunCommand` made, by their names; `config` may be there several times. */
export function rerunOptions(rerun: string): Readonly<Record<string, string | readonly string[]>> {
  const words = [...rerun.matchAll(/(?:'[^']*'|\\'|[^\s'])+/g)].map(([word]) =>
    word.replaceAll(/'([^']*)'|\\'/g, (_whole, inner: string | undefined) => inner ?? "'"),
  );
  const options: Record<string, string | readonly string[]> = {};
  const fragments: string[] = [];
  for (const [at, word] of words.entries()) {
    const value = words[at + 1];
    if (!word.startsWith('--') || value === undefined) continue;
    const name = word.slice(2);
    if (name === 'config') fragments.push(value);
    options[name] = name === 'config' ? fragments : value;
  }
  return options;
}
