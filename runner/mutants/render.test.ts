import test from 'ava';
import type { Mutant } from './mutants.ts';
import type { MutantResult } from './record.ts';
import { renderMutants, scoreOf, type Row } from './render.ts';

const mutant = (number: number, more: Partial<Mutant> = {}): Mutant => ({
  ...{ number, file: 'fs/fuse/file.c', what: `what ${number} is`, noticedBy: [] },
  ...more,
});
const result = (outcome: MutantResult['outcome'], more: Partial<MutantResult> = {}): MutantResult => ({
  ...{ outcome, by: null, message: null, durationMs: 1, tried: {} },
  ...more,
});
const rows: readonly Row[] = [
  {
    mutant: mutant(1),
    result: result('noticed', {
      by: 'io/read: reads',
      message: 'a | b\u001B[31m <x> at file:///home/me/x.ts:1',
    }),
  },
  { mutant: mutant(2), result: result('survived') },
  { mutant: mutant(3, { equivalent: 'nobody sees it' }), result: result('survived') },
  { mutant: mutant(4, { equivalent: 'not so' }), result: result('noticed') },
  { mutant: mutant(5), result: undefined },
  { mutant: mutant(6, { noticedBy: ['io/write: writes'] }), result: undefined },
];

test('mutants page: what cannot be noticed and what was not tried do not count', (t) => {
  t.deepEqual(scoreOf(rows), { noticed: 2, of: 3, equivalent: 1 });
});

test('mutants page: every mistake is a row, and text of the guest does no harm in it', (t) => {
  const page = renderMutants(rows, '6.12.1');
  t.regex(
    page,
    /\*\*2 of 3\*\* mistakes are noticed \(66 %\); 1 more cannot be\. 1 that were not tried this time/,
  );
  t.regex(page, /^\| 1 \| what 1 is \| io\/read: reads \| a \\\| b {1,2}x +\|$/m);
  t.regex(page, /^\| 2 .*\*\*nobody\*\*/m);
  t.regex(page, /^\| 3 .*cannot be noticed \| nobody sees it/m);
  t.regex(page, /^\| 4 .*the machine/m);
  t.regex(page, /^\| 5 .*\| not tried +\|/m);
  t.regex(page, /^\| 6 .*\| io\/write: writes \| not tried this time \|/m);
});
