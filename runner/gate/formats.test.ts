import test from 'ava';
import fc from 'fast-check';
import { fakeReport } from '#runner/report/fake-report.ts';
import { reportSchema } from '#runner/report/report.ts';
import { decideGate, gateExitCode } from './decide.ts';
import { explain } from './explain.ts';
import { fakeGateReport, fakePatch, fakeVerdict } from './fake-gate.ts';
import { formatGate, gateFormats } from './formats.ts';
import { optionsToReproduce, whatToReproduce } from './reproduce.ts';
import { BOOT } from './sample.ts';
import { describeDifference } from './render-against.ts';
import { parseTime } from './run-gate.ts';
import { COLUMNS, wrap } from './wrap.ts';

const report = fakeGateReport();

test('formats: the text has at most 72 columns, nothing that a terminal obeys, and the closing line last', (t) => {
  const text = formatGate(report, 'text');
  for (const line of text.split('\n')) t.true(line.length <= COLUMNS, line);
  t.notRegex(text, /\u001b|^\s*::/m);
  t.is(text.trimEnd().split('\n').at(-1), '2 passed, 2 failed, 4 skipped');
  t.true(text.startsWith('fusegate: DOES NOT BUILD, REGRESSION: fuse: a series'));
});

test('formats: the text says which patch, how often, how sure, and what was found besides', (t) => {
  const text = formatGate(report, 'text').replaceAll(/\s+/g, ' ');
  for (const part of [
    'same kernel as the base: ok',
    'BREAKS 1 test',
    'DOES NOT BUILD: fs/fuse/file.c:12: implicit declaration',
    'new warning: fs/fuse/file.c:12: unused variable x',
    'lost: CONFIG_FUSE_DAX',
    'patch 2; 7 of 7 runs passed before, 0 of 8 after, odds of a false blame 0.32 % | Difference: | - 5 | + 5003',
    'odds that it is chance 0.30 %',
    'one of patches 3 to 4',
    'Unconfirmed: area/file: in doubt',
    'Fixed: area/file: mended',
    'Flaky, no verdict: area/file: now and then',
    'Failing before the series, too: area/file: old',
    'Known failures: area/file: listed',
    'No verdict: area/file: lost',
    '1: checkpatch: WARNING:LONG_LINE',
    'the patches came in the order 2, 1, 3, 4',
    '2 runs of kernels, 1 of them known from before',
  ]) {
    t.true(text.includes(part), part);
  }
});

test('formats: any text of a series or a guest stays in its columns', (t) => {
  fc.assert(
    fc.property(fc.string({ unit: 'grapheme', maxLength: 300 }), (said) => {
      const hostile = fakeGateReport({
        patches: [fakePatch(1, { subject: said, warnings: [said] })],
        verdicts: [fakeVerdict('area/file: x', 'regressed', { patch: { first: 1, last: 1 }, message: said })],
        notes: [said],
      });
      const lines = formatGate(hostile, 'text').split('\n');
      return lines.every((line) => line.length <= COLUMNS && !/^\s*::/.test(line));
    }),
  );
  t.pass();
});

test('formats: b4 gets an array with the series and every patch', (t) => {
  const checks = JSON.parse(formatGate(report, 'b4')) as readonly Record<string, string>[];
  t.is(checks.length, 5);
  t.deepEqual(
    checks.map(({ tool, status }) => [tool, status]),
    [
      ['fusegate', 'fail'],
      ['fusegate 1/4', 'pass'],
      ['fusegate 2/4', 'fail'],
      ['fusegate 3/4', 'fail'],
      ['fusegate 4/4', 'fail'],
    ],
  );
  for (const check of checks) {
    t.deepEqual(Object.keys(check), ['tool', 'status', 'summary', 'url', 'details']);
    t.true(Array.isArray(JSON.parse(check['details'] ?? '')));
  }
  const [series, , , third] = checks;
  t.is(series?.['summary'], 'DOES NOT BUILD, REGRESSION: 2 passed, 2 failed, 4 skipped');
  t.regex(series?.['details'] ?? '', /"fail","description":"patch 3 does not build: fs\/fuse\/file\.c:12/);
  t.regex(third?.['summary'] ?? '', /^does not build: fs\/fuse/);
});

test('formats: b4 hears of a compiler warning that a patch brings, which is no failure', (t) => {
  const warned = fakeGateReport({
    patches: [fakePatch(1, { warnings: ['f.c:1: unused'] })],
    verdicts: [fakeVerdict('area/file: x', 'passed')],
  });
  const [, patch] = JSON.parse(formatGate(warned, 'b4')) as readonly Record<string, string>[];
  t.like(patch, { status: 'warn', summary: 'no regression, 1 new compiler warning' });
});

test('formats: KTAP counts right and JUnit closes what it opens', (t) => {
  const ktap = formatGate(report, 'ktap').trimEnd().split('\n');
  t.is(ktap[1], '1..15');
  t.is(ktap.filter((line) => /^(?:not )?ok \d/.test(line)).length, 15);
  t.is(ktap.filter((line) => line.startsWith('not ok')).length, 5);
  t.true(ktap.includes('# regressed by patch 2: passed 7 of 7 runs before, 0 of 8 after'));
  t.true(ktap.every((line) => /^(?:KTAP version 1|1\.\.\d+|# .*|(?:not )?ok \d+ .*)$/.test(line)));
  const junit = formatGate(report, 'junit');
  t.is(junit.match(/<testcase /g)?.length, 15);
  // Patches 2, 3 and 4, and what 2 and 4 broke.
  t.is(junit.match(/<failure /g)?.length, 5);
  t.true(junit.includes('<testsuite name="patches" tests="4" failures="3"'));
  t.regex(junit, /2\/4 fuse: patch 2"><failure type="regressed" message="breaks 1 test">area\/file: breaks</);
  t.is(junit.match(/<testsuite /g)?.length, junit.match(/<\/testsuite>/g)?.length);
});

test('formats: a patch that does not apply says where, and those after it were not tried', (t) => {
  const message =
    'patch 2/3 (fuse: patch 2) does not apply to linux-source-6.12: fs/fuse/file.c, hunk 1 of 1';
  const text = formatGate(
    fakeGateReport({
      series: { name: 'x', title: 'x', count: 3 },
      patches: [
        fakePatch(1),
        fakePatch(2, { state: 'not-applied', message }),
        fakePatch(3, { state: 'not-applied', message }),
      ],
    }),
    'text',
  );
  t.regex(
    text,
    /2\/3 fuse: patch 2\n {4}DOES NOT APPLY to linux-source-6\.12: fs\/fuse\/file\.c, hunk 1 of 1\n/,
  );
  t.regex(text, /3\/3 fuse: patch 3\n {4}not tried: patch 2 does not apply\n/);
});

const against = {
  ...{ name: 'v12', spec: '/series/v12.mbox', ref: 'a'.repeat(40), count: 3, newCount: 8 },
  ...{
    same: [1, 2, 3, 6, 8],
    changed: [4],
    added: [5, 7],
    dropped: ['fuse: gone\u001b[31m', 'fuse: ::error::x'],
  },
};
const compared = fakeGateReport({
  against,
  ref: 'b'.repeat(40),
  series: { name: 'v13', title: 'fuse: passthrough', count: 8 },
  patches: [fakePatch(1, { subject: 'v13 in place of v12' })],
  verdicts: [
    fakeVerdict('area/file: breaks', 'regressed', { patch: { first: 1, last: 1 }, odds: 0.0032 }),
    fakeVerdict('area/file: mended', 'fixed', { patch: { first: 1, last: 1 }, odds: 0.0032 }),
  ],
  notes: [],
});

test('formats: one version against another says so, and which of its patches are other ones', (t) => {
  const text = formatGate(compared, 'text');
  for (const line of text.split('\n')) t.true(line.length <= COLUMNS, line);
  t.notRegex(text, /\u001b|^\s*::/m);
  const said = text.replaceAll(/\s+/g, ' ');
  for (const part of [
    'REGRESSION: fuse: passthrough the whole of v13 (8 patches) in place of the whole of v12 (3 patches), on',
    ' patches 1-3, 6, 8 as in v12 patch 4 changed since patches 5, 7 new dropped: fuse: gone; fuse: ',
    'v13 in place of v12 BREAKS 1 test',
    'area/file: breaks since v12; 7 of 7 runs passed before',
  ]) {
    t.true(said.includes(part), `${part}\n${said}`);
  }
  t.notRegex(said, /1\/8|patch 1 \(/);
  t.regex(explain(compared, 'area/file: breaks'), /regressed since v12\n[^]*v12: passed 7 of 7 runs/);
});

test('formats: of two versions b4 hears about the series alone, under a name of its own', (t) => {
  const checks = JSON.parse(formatGate(compared, 'b4')) as readonly Record<string, string>[];
  t.deepEqual(
    checks.map(({ tool, status }) => [tool, status]),
    [['fusegate against v12', 'fail']],
  );
});

test('formats: versions with the same patches, in one or two words', (t) => {
  const of = (overrides: Partial<typeof against>): readonly string[] =>
    describeDifference({ ...against, same: [], changed: [], added: [], dropped: [], ...overrides });
  t.deepEqual(of({ same: [1, 2], newCount: 2 }), ['all patches are those of v12']);
  t.deepEqual(of({ same: [1, 2], newCount: 2, dropped: ['x'] }), ['patches 1, 2 as in v12', 'dropped: x']);
  t.deepEqual(of({ changed: [1], newCount: 1 }), ['patch 1 changed since']);
});

test('reproduce: of two versions each is taken whole, and 0 is the earlier one', (t) => {
  const test = 'area/file: breaks';
  t.deepEqual(whatToReproduce(compared, test, undefined), { test, patches: undefined, ref: 'b'.repeat(40) });
  t.deepEqual(whatToReproduce(compared, test, 0), {
    ...{ test, patches: undefined, ref: 'a'.repeat(40), series: '/series/v12.mbox' },
  });
  t.throws(() => whatToReproduce(compared, test, 2), { message: /no patch 2/ });
});

test('reproduce: of a plain run the kernel that it ran on', (t) => {
  const plain = fakeReport({ gate: null });
  const id = plain.tests[0]?.id ?? '';
  t.deepEqual(whatToReproduce(plain, id, undefined), { test: id, patches: undefined, ref: undefined });
});

test('reproduce: a run of that kernel and that test alone', (t) => {
  const rerun =
    'npx fusegate run --profile v12-6.1 --series /v12 --tree /linux --config /a.config --accel tcg';
  const same = {
    profile: 'v12-6.1',
    series: '/v12',
    tree: '/linux',
    config: ['/a.config'],
    accel: 'tcg',
    jobs: 1,
  };
  const what = { test: 'area/file: 2 * 2 is 4', patches: 3, ref: 'v6.1' };
  const match = [String.raw`area/file: 2 \* 2 is 4`];
  t.deepEqual(optionsToReproduce({ rerun }, what), { ...same, patches: 3, base: 'v6.1', match });
  // A boot is no test; what is not said stays as the report has it.
  const boot = { test: BOOT, patches: undefined, ref: undefined };
  t.deepEqual(optionsToReproduce({ rerun }, boot), same);
  t.is(optionsToReproduce({ rerun }, { ...boot, series: '/v11' })['series'], '/v11');
  // The source of a profile has no commits.
  const packaged = 'npx fusegate run --profile v12-6.1 --series /v12';
  t.false('base' in optionsToReproduce({ rerun: packaged }, what));
});

test('formats: a gate that ended early says why in each of them', (t) => {
  const failure = {
    code: 'E_X',
    blame: 'user',
    message: 'it is not there',
    hint: 'look',
    evidence: [],
    excerpt: [],
  } as const;
  const early = fakeReport({ gate: null, failure: { ...failure, evidence: [], excerpt: [] } });
  for (const format of gateFormats) t.true(formatGate(early, format).includes('it is not there'), format);
});

test('formats: the report of a gate is one by the schema', (t) => {
  t.deepEqual(reportSchema.parse(JSON.parse(JSON.stringify(report))), report);
});

test('decide: exit codes of the contract', (t) => {
  const of = (overrides: Parameters<typeof fakeGateReport>[0]): readonly [string, number] => {
    const { gate } = fakeGateReport({ patches: [fakePatch(1)], ...overrides });
    return gate === null ? ['none', -1] : [decideGate(gate), gateExitCode(gate)];
  };
  const passed = [fakeVerdict('a/b: c', 'passed')];
  const red = fakeVerdict('a/b: d', 'regressed', { patch: { first: 1, last: 1 } });
  t.deepEqual(of({ verdicts: passed }), ['pass', 0]);
  t.deepEqual(of({ verdicts: [...passed, fakeVerdict('a/b: e', 'pre-existing')] }), ['pass', 0]);
  t.deepEqual(of({ verdicts: [...passed, fakeVerdict('a/b: e', 'flaky')] }), ['pass', 0]);
  t.deepEqual(of({ verdicts: [...passed, red] }), ['fail', 1]);
  t.deepEqual(of({ verdicts: [...passed, { ...red, confirmed: false }] }), ['inconclusive', 3]);
  t.deepEqual(of({ verdicts: [...passed, fakeVerdict('a/b: e', 'infra')] }), ['inconclusive', 3]);
  t.deepEqual(of({ verdicts: [] }), ['inconclusive', 3]);
  t.deepEqual(of({ verdicts: passed, outOfTime: true }), ['inconclusive', 3]);
  t.deepEqual(of({ verdicts: [red], patches: [fakePatch(1, { state: 'not-built' })] }), ['fail', 4]);
  t.deepEqual(of({ verdicts: passed, patches: [fakePatch(1, { state: 'not-applied' })] }), ['fail', 4]);
});

test('explain: the runs, the odds and the steps behind a verdict', (t) => {
  const text = explain(report, 'area/file: breaks');
  t.regex(text, /regressed by patch 2\n/);
  t.regex(text, /base: passed 7 of 7 runs/);
  t.regex(text, /odds of\s+0\.32 %/);
  t.regex(text, /patch 2\/4, 6x, 1 min 0 s: is it there every time\?/);
  t.throws(() => explain(report, 'nobody'), { message: /no verdict on "nobody"/ });
});

test('reproduce: the kernel that the verdict blames, or the one that is asked for', (t) => {
  t.deepEqual(whatToReproduce(report, 'area/file: breaks', undefined), {
    ...{ test: 'area/file: breaks', patches: 2, ref: undefined },
  });
  t.is(whatToReproduce(report, 'breaks', 0).patches, 0);
  t.is(whatToReproduce(report, 'area/file: old', undefined).patches, 4);
  t.throws(() => whatToReproduce(report, 'area/file', undefined), { message: /names \d+ tests/ });
  t.throws(() => whatToReproduce(report, 'nobody', undefined), { message: /is no test/ });
  t.throws(() => whatToReproduce(report, 'breaks', 9), { message: /has 4$/ });
});

test('deadline: a time with its unit', (t) => {
  t.is(parseTime('30m'), 1_800_000);
  t.is(parseTime('1.5h'), 5_400_000);
  t.is(parseTime('90s'), 90_000);
  for (const wrong of ['', '30', 'm', '-5m', '0s', '5d'])
    t.throws(() => parseTime(wrong), { message: /--deadline/ });
});

test('wrap: words stay whole where they can, and every line fits', (t) => {
  t.deepEqual(wrap('a b', '  '), ['  a b']);
  t.deepEqual(wrap(''), []);
  const long = 'x'.repeat(200);
  const lines = wrap(`start ${long} end`, '  ', '    ');
  t.true(lines.every((line) => line.length <= COLUMNS));
  t.is(lines.join('').replaceAll(' ', ''), `start${long}end`);
});
