import test from 'ava';
import { fakeGateReport } from '#runner/gate/fake-gate.ts';
import { fakeReport } from '#runner/report/fake-report.ts';
import { gateFigures, type Timed } from './gate-part.ts';

const step = { wanted: 'all', times: 1, why: 'x', cached: false } as const;
const gated = fakeGateReport({
  steps: [
    { ...step, patch: 0, durationMs: 60_000 },
    { ...step, patch: 8, durationMs: 80_000 },
    { ...step, patch: 3, durationMs: 5_000 },
    { ...step, patch: 5, durationMs: 7_000 },
    { ...step, patch: 0, durationMs: 1_000 },
  ],
});
const complete: Timed = {
  seconds: 250,
  report: {
    ...gated,
    timings: { ...gated.timings, sourceMs: 1000, applyMs: null, configMs: 2000, buildMs: 70_000 },
  },
};
const of = (seconds: number): Timed => ({ seconds, report: fakeReport() });
const calls = { alone: of(100), complete, cached: of(9), changed: of(120), one: of(100) };

test('bench gate: the targets of the three ratios, and where the time of the gate goes', (t) => {
  const figures = new Map(gateFigures(calls).map((each) => [each.id, each]));
  const values = Object.fromEntries([...figures].map(([id, { spread }]) => [id, spread.median]));
  t.like(values, {
    'gate.ratio': 2.5,
    'gate.cached': 9,
    'gate.changed.ratio': 1.2,
    'gate.builds': 73,
    'gate.base': 61,
    'gate.inside': 12,
    'gate.end': 80,
  });
  for (const id of ['gate.ratio', 'gate.cached', 'gate.changed.ratio']) t.true(figures.get(id)?.met, id);
});

test('bench gate: each target can be missed', (t) => {
  const slow = { ...calls, complete: { ...complete, seconds: 251 }, cached: of(10.1), changed: of(131) };
  const missed = gateFigures(slow).filter(({ met }) => met === false);
  t.deepEqual(
    missed.map(({ id }) => id),
    ['gate.ratio', 'gate.cached', 'gate.changed.ratio'],
  );
});
