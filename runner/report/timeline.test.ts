import test from 'ava';
import type { RunEvent } from '#runner/lib/events.ts';
import { Timeline, type Span } from './timeline.ts';

test('timeline: stages, machines and tests, each with its start, its duration and its machine', (t) => {
  const spans = spansOf([
    [0, { type: 'stage-started', stage: 'boot', title: '' }],
    [10, { type: 'machine-booting', machine: 'm1', accelerator: 'tcg', console: '', restored: true }],
    [40, { type: 'machine-ready', machine: 'm1', bootMs: 20, deployMs: 10 }],
    [41, { type: 'stage-finished', stage: 'boot', durationMs: 41, cached: false }],
    [42, { type: 'file-started', file: 'a/b' }],
    [44, { type: 'lease-requested', test: 'a/b: c' }],
    [50, { type: 'test-started', id: 'a/b: c', machine: 'm1' }],
    [88, { type: 'lease-ended', test: 'a/b: c', machine: 'm1' }],
    [
      90,
      {
        ...{ type: 'test-finished', id: 'a/b: c', area: 'a', title: 'c', outcome: 'passed' },
        ...{ durationMs: 40, message: null, evidence: [] },
      },
    ],
    [93, { type: 'file-finished', file: 'a/b' }],
    [95, { type: 'machine-stopped', machine: 'm1' }],
  ]);
  t.deepEqual(spans, [
    { kind: 'stage', name: 'boot', machine: null, startMs: 0, durationMs: 41 },
    { kind: 'restore', name: 'm1', machine: 'm1', startMs: 10, durationMs: 30 },
    { kind: 'machine', name: 'm1', machine: 'm1', startMs: 10, durationMs: 85 },
    { kind: 'file', name: 'a/b', machine: null, startMs: 42, durationMs: 51 },
    { kind: 'lease', name: 'a/b: c', machine: 'm1', startMs: 44, durationMs: 44 },
    { kind: 'test', name: 'a/b: c', machine: 'm1', startMs: 50, durationMs: 40 },
  ]);
});

test('timeline: a machine that boots is told from one that is restored; what does not end has no duration', (t) => {
  const spans = spansOf([
    [0, { type: 'machine-booting', machine: 'm1', accelerator: 'kvm', console: '' }],
    [5, { type: 'machine-ready', machine: 'm1', bootMs: 3, deployMs: 2 }],
    [6, { type: 'test-started', id: 'a/b: c', machine: 'm1' }],
  ]);
  t.deepEqual(spans, [{ kind: 'boot', name: 'm1', machine: 'm1', startMs: 0, durationMs: 5 }]);
});

function spansOf(events: readonly (readonly [at: number, event: RunEvent])[]): Span[] {
  const timeline = new Timeline();
  for (const [at, event] of events) timeline.sink({ ...event, at });
  return timeline.spans;
}
