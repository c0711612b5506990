import test from 'ava';
import { fakeReport } from '#runner/report/fake-report.ts';
import { complaints, type Ended } from './judge.ts';
import { phaseOf } from './program.ts';
import { randomFrom } from './random.ts';
import { roleOf } from './victims.ts';

const passed = fakeReport({ faults: [], failure: null, verdict: 'pass' });
const base = passed.tests[0];
if (base === undefined) throw new Error('the example has no test');
const one = (outcome: 'passed' | 'not-run' | 'failed', verdict: 'pass' | 'fail' | 'inconclusive'): Ended => ({
  exitCode: outcome === 'passed' ? 0 : 3,
  output: '1 passed, 0 failed, 0 skipped\n',
  report: { ...passed, verdict, tests: [{ ...base, outcome }] },
  killed: ['QEMU'],
  marked: new Set([base.id]),
  expected: 1,
});

test('chaos: what is true is not complained about', (t) => {
  t.deepEqual(complaints(one('passed', 'pass')), []);
  t.deepEqual(complaints(one('not-run', 'inconclusive')), []);
  t.deepEqual(
    complaints({ ...one('passed', 'pass'), exitCode: null, report: undefined, killed: ['runner'] }),
    [],
  );
});

test('chaos: a wrong word is', (t) => {
  t.regex(complaints(one('failed', 'fail'))[0] ?? '', /told as failed/);
  t.regex(complaints({ ...one('passed', 'pass'), marked: new Set() })[0] ?? '', /no guest has seen it/);
  t.deepEqual(complaints({ ...one('passed', 'pass'), expected: 2 }).slice(0, 2), [
    '1 tests of 2',
    'exit code 0 instead of 3',
  ]);
  t.deepEqual(complaints({ ...one('not-run', 'inconclusive'), killed: [] }), ['nothing was killed']);
  t.deepEqual(complaints({ ...one('passed', 'pass'), output: '' }), ['no closing line']);
  t.regex(complaints({ ...one('passed', 'pass'), report: undefined })[0] ?? '', /no report/);
  const stack = '    at run (file:///x/run.ts:1:2)\n1 passed, 0 failed, 0 skipped';
  t.deepEqual(complaints({ ...one('passed', 'pass'), output: stack }), ['it shows a stack']);
});

test('chaos: the same seed is the same chaos', (t) => {
  const [a, b, c] = [7, 7, 8].map((seed) => randomFrom(seed));
  const draw = (random: (() => number) | undefined): readonly number[] =>
    Array.from({ length: 20 }, () => random?.() ?? 1);
  const first = draw(a);
  t.deepEqual(first, draw(b));
  t.notDeepEqual(first, draw(c));
  t.true(first.every((value) => value >= 0 && value < 1));
});

test('chaos: processes are known by their command lines', (t) => {
  t.is(roleOf(['/usr/bin/qemu-system-x86_64', '-kernel', 'x']), 'QEMU');
  t.is(roleOf(['node', '/p/runner/cli/fusegate.js', 'run']), 'runner');
  t.is(roleOf(['node', '/p/node_modules/ava/entrypoints/cli.js']), 'AVA');
  t.is(roleOf(['node', '/p/node_modules/ava/lib/worker/base.js']), 'test process');
  t.is(roleOf(['python3', '/t/usr/bin/vng', '--run']), 'virtme-ng');
  t.is(roleOf(['/p/node_modules/@esbuild/linux-x64/bin/esbuild', '--service']), 'bundler');
  t.is(roleOf(['cat']), 'other');
});

test('chaos: how far a run has come is known from what it writes', (t) => {
  const lines = [
    'fusegate: profile mainline-6.12; results in /x',
    'build   6.12.117 d96dc2292dab (cached)',
    'boot    6.12.117, tcg, from a saved machine (0.6 s)',
    'suites  suites … (log: /x/ava.log)',
    '✔ passthrough-io/append: A7 (0.5 s)',
    'suites  3 tests (1.5 s)',
  ];
  const phases = lines.map((_, at) => phaseOf(lines.slice(0, at + 1).join('\n')));
  t.deepEqual(phases, ['start', 'first machine', 'first machine', 'tests', 'tests', 'end']);
});
