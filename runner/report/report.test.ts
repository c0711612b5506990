import { execFileSync } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { Failure } from '#runner/lib/failure.ts';
import { EventBus } from '#runner/lib/events.ts';
import { fakeReport, fakeTest } from './fake-report.ts';
import { loadReport } from './load-report.ts';
import { renderAnnotations } from './render-annotations.ts';
import { escapeXml, renderJunit } from './render-junit.ts';
import { renderTap } from './render-tap.ts';
import { renderSummary, renderText } from './render-text.ts';
import { countTests, reportSchema } from './report.ts';
import { linesReporter } from './reporters/lines.ts';
import { tapReporter } from './reporters/tap.ts';
import { rerunTest } from './rerun.ts';

const failure = {
  code: 'E_QEMU_DIED',
  blame: 'infra',
  message: 'QEMU died',
  hint: 'look there',
  evidence: [{ label: 'log', path: '/out/qemu.log' }],
} as const;

test('report: it survives the way through a file', async (t) => {
  const dir = await mkdtemp(join(tmpdir(), 'fusegate-report-'));
  const report = fakeReport();
  await writeFile(join(dir, 'report.json'), JSON.stringify(report));
  t.deepEqual(await loadReport(dir), report);
  t.deepEqual(await loadReport(join(dir, 'report.json')), report);
  await writeFile(join(dir, 'report.json'), '{"schema": 2}');
  await t.throwsAsync(loadReport(dir), {
    instanceOf: Failure,
    message: /is not a report of fusegate: schema/,
  });
  await rm(dir, { recursive: true });
});

test('report: counts', (t) => {
  t.deepEqual(countTests(fakeReport().tests), fakeReport().counts);
  t.true(reportSchema.safeParse(fakeReport()).success);
});

test('report: the text ends with the closing line, alone', (t) => {
  const lines = renderText(fakeReport()).split('\n');
  t.is(lines.at(-1), '');
  t.is(lines.at(-2), '1 passed, 2 failed, 2 skipped');
});

test('report: the text of a failed test has why, where to look and how to see it again', (t) => {
  const text = renderText(
    fakeReport({ failure: { ...failure, evidence: [...failure.evidence], excerpt: ['last words'] } }),
  );
  t.true(text.includes('✘ area/file: it\'s *wrong* <&> "quoted" #1\n    not equal\n    : :error::x\n'));
  t.true(text.includes('    console: /out/tests/x/console.log\n'));
  t.true(text.includes('✘ crashed: area/file: panics'));
  t.true(text.includes('kernel fault (warning): WARNING at boot'));
  t.true(
    text.includes(
      'fusegate: E_QEMU_DIED: QEMU died\n    | last words\n    log: /out/qemu.log\n    hint: look there\n',
    ),
  );
});

test('report: the command that runs a test again is one argument to a shell, and matches only it', (t) => {
  const [, wrong] = fakeReport().tests;
  const command = wrong === undefined ? '' : rerunTest(fakeReport(), wrong);
  const words = execFileSync('sh', ['-c', `printf '%s\\n' ${command}`], { encoding: 'utf8' }).split('\n');
  t.deepEqual(words.slice(0, -1), [
    'npx',
    'fusegate',
    'run',
    '--profile',
    'mainline-6.12',
    '--suite',
    'area',
    '--match',
    String.raw`it's \*wrong\* <&> "quoted" #1`,
  ]);
});

test('report: TAP', (t) => {
  const lines = renderTap(fakeReport()).split('\n');
  t.is(lines[0], 'TAP version 14');
  const points = lines.filter((line) => /^(?:not )?ok /.test(line));
  t.deepEqual(points, [
    'ok 1 - area/file: reads',
    String.raw`not ok 2 - area/file: it's *wrong* <&> "quoted" \#1`,
    'not ok 3 - area/file: panics',
    'ok 4 - area/file: needs more # SKIP no ids',
    'ok 5 - area/file: never ran # SKIP not run: no machine',
    'not ok 6 - area/file: fails as known # TODO broken upstream',
    'not ok 7 - kernel fault: WARNING at boot, 100 %',
  ]);
  t.true(lines.includes('1..7'));
});

test('report: TAP as it happens is the TAP of the report', (t) => {
  const report = fakeReport({ failure: { ...failure, evidence: [], excerpt: [] } });
  let streamed = '';
  const reporter = tapReporter((text) => {
    streamed += text;
  });
  const bus = new EventBus();
  bus.subscribe(reporter.sink);
  bus.emit({ type: 'run-started', profile: 'p', series: null, out: '/out' });
  for (const test of report.tests) bus.emit({ type: 'test-finished', ...test });
  reporter.end(report);
  t.is(streamed, renderTap(report));
});

test('report: JUnit is well-formed and counts', (t) => {
  const xml = renderJunit(fakeReport({ failure: { ...failure, evidence: [], excerpt: [] } }));
  t.true(xml.includes('<testsuite name="area" tests="6" failures="2" errors="0" skipped="3" time="1.234">'));
  t.true(xml.includes('name="it\'s *wrong* &lt;&amp;&gt; &quot;quoted&quot; #1"'));
  t.true(xml.includes('<error message="E_QEMU_DIED: QEMU died"/>'));
  const opened = [...xml.matchAll(/<([\w-]+)(?:\s[^>]*)?(?<!\/)>/g)].map(([, name]) => name).sort();
  const closed = [...xml.matchAll(/<\/([\w-]+)>/g)].map(([, name]) => name).sort();
  t.deepEqual(opened, closed);
  t.is(escapeXml('a\u0000\u001b]b\ud800c'), 'a]bc');
});

test('report: a kernel fault of a test that is known to fail is told with the test alone', (t) => {
  const known = fakeReport({
    tests: [fakeTest('fails as known', { outcome: 'known-failure' })],
    faults: [
      {
        kernel: null,
        kind: 'lockdep',
        title: 'WARNING: possible recursive locking detected',
        fingerprint: 'lockdep x',
        test: 'area/file: fails as known',
        evidence: [],
      },
    ],
  });
  t.notRegex(renderSummary(known), /kernel fault/);
  t.is(renderAnnotations(known), '');
  t.regex(renderSummary({ ...known, tests: [] }), /^kernel fault \(lockdep\): WARNING/m);
});

test('report: annotations are escaped and limited', (t) => {
  const text = renderAnnotations(fakeReport());
  t.deepEqual(text.trimEnd().split('\n'), [
    '::error title=kernel panic::Kernel panic',
    '::error title=kernel warning::WARNING at boot, 100 %25',
    '::error title=area/file%3A it\'s *wrong* <&> "quoted" #1::not equal%0A: :error::x',
    '::error title=area/file%3A panics::the kernel panicked',
  ]);
});

test('report: plain lines have no cursor movement and obey no guest', (t) => {
  let text = '';
  const sink = linesReporter((line) => {
    text += line;
  }, 'npx fusegate run');
  const bus = new EventBus();
  bus.subscribe(sink);
  bus.emit({ type: 'stage-started', stage: 'build', title: 'kernel', log: '/out/build.log' });
  for (let done = 1; done <= 50; done++) {
    bus.emit({ type: 'stage-progress', stage: 'build', done, total: 880, unit: 'objects' });
  }
  bus.emit({ type: 'stage-finished', stage: 'build', durationMs: 331_000, cached: false, detail: '6.12' });
  bus.emit({ type: 'note', text: '::error::\u001b[31mno' });
  t.deepEqual(text.trimEnd().split('\n'), [
    'build   kernel … (log: /out/build.log)',
    'build   1/880 objects, 0 %',
    'build   6.12 (5 min 31 s)',
    'note: : :error::no',
  ]);
  t.deepEqual(bus.sinkErrors, []);
});
