import test from 'ava';
import type { ReportFailure, ReportFault, ReportTest } from '#runner/report/report.ts';
import { decideVerdict, exitCodeFor } from './classify.ts';

const outcomes: readonly (readonly [ReportTest['outcome'], string, number])[] = [
  ['passed', 'pass', 0],
  ['skipped', 'pass', 0],
  ['known-failure', 'pass', 0],
  ['failed', 'fail', 1],
  ['crashed', 'fail', 1],
  ['timed-out', 'fail', 1],
  ['not-run', 'inconclusive', 3],
];

for (const [outcome, verdict, code] of outcomes) {
  test(`classify: a test that is ${outcome}`, (t) => {
    const decided = decideVerdict({
      tests: [testOf('passed'), testOf(outcome)],
      faults: [],
      failure: null,
    });
    t.is(decided, verdict as typeof decided);
    t.is(exitCodeFor(decided, null), code as ReturnType<typeof exitCodeFor>);
  });
}

const blames: readonly (readonly [ReportFailure['blame'], string, number])[] = [
  ['user', 'inconclusive', 2],
  ['series', 'fail', 4],
  ['kernel', 'fail', 1],
  ['test', 'fail', 1],
  ['infra', 'inconclusive', 3],
  ['interrupted', 'inconclusive', 130],
];

for (const [blame, verdict, code] of blames) {
  test(`classify: a run that ended early by ${blame}`, (t) => {
    const failure = failureOf(blame);
    const decided = decideVerdict({ tests: [testOf('passed')], faults: [], failure });
    t.is(decided, verdict as typeof decided);
    t.is(exitCodeFor(decided, failure), code as ReturnType<typeof exitCodeFor>);
  });
}

test('classify: what the kernel did wrong outweighs infrastructure that broke later', (t) => {
  const failure = failureOf('infra');
  const verdict = decideVerdict({ tests: [testOf('failed'), testOf('not-run')], faults: [], failure });
  t.is(verdict, 'fail');
  t.is(exitCodeFor(verdict, failure), 1);
});

test('classify: an interrupt is said even when tests had failed', (t) => {
  const failure = failureOf('interrupted');
  t.is(exitCodeFor(decideVerdict({ tests: [testOf('failed')], faults: [], failure }), failure), 130);
});

test('classify: a fault counts, unless the test it belongs to is a known failure', (t) => {
  const known = testOf('known-failure');
  const decide = (of: string | null): string =>
    decideVerdict({ tests: [known], faults: [faultOf(of)], failure: null });
  t.is(decide(null), 'fail');
  t.is(decide('another'), 'fail');
  t.is(decide(known.id), 'pass');
});

function testOf(outcome: ReportTest['outcome']): ReportTest {
  const id = `area/file: ${outcome}`;
  return {
    id,
    area: 'area',
    title: outcome,
    kernel: null,
    outcome,
    durationMs: 1,
    message: null,
    evidence: [],
  };
}

function faultOf(of: string | null): ReportFault {
  return { kernel: null, kind: 'warning', title: 'WARNING', fingerprint: 'f', test: of, evidence: [] };
}

function failureOf(blame: ReportFailure['blame']): ReportFailure {
  return { code: 'E_X', blame, message: 'x', hint: null, evidence: [] };
}
