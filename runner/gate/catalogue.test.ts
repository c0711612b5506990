import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { loadSeries } from '#kernel/series/load-series.ts';
import type { Patch } from '#kernel/series/series.ts';
import { Failure } from '#runner/lib/failure.ts';
import { projectRoot } from '#runner/lib/paths.ts';
import { catalogueDir, loadCatalogue, mismatches, seriesOf } from './catalogue.ts';
import { gateExitCode } from './decide.ts';
import { fakePatch } from './fake-gate.ts';
import { playGate, type Behaviour } from './fake-series.ts';
import type { GateResult } from './gate-schema.ts';
import { gateResult } from './gate-result.ts';
import { recordingOf, recordingSchema, type Recording } from './recording.ts';
import type { PatchBuild } from './series-kernels.ts';
import { stopsOf } from './stops.ts';
import { transientPatches } from './transient.ts';

const catalogue = await loadCatalogue();
const dir = join(projectRoot, 'runner/gate/testdata');
const recordings = await Promise.all(
  (await readdir(dir)).map(async (file) =>
    recordingSchema.parse(JSON.parse(await readFile(join(dir, file), 'utf8'))),
  ),
);

test('catalogue: every series is there, is read, and is described once', async (t) => {
  const names = (await readdir(catalogueDir, { withFileTypes: true }))
    .filter((entry) => entry.isDirectory())
    .map((entry) => entry.name);
  const own = catalogue.filter((entry) => entry.series === undefined);
  t.deepEqual(names.toSorted(), own.map(({ name }) => name).toSorted());
  t.is(new Set(catalogue.map(({ name }) => name)).size, catalogue.length);
  for (const entry of catalogue) {
    const { name, regressed } = entry;
    const { series } = await loadSeries(seriesOf(entry).series, undefined, new AbortController().signal);
    t.true(series.patches.length > 0, name);
    t.true(
      regressed.every(({ patch }) => patch <= series.patches.length),
      name,
    );
    t.deepEqual(series.notes, [], name);
  }
});

test('catalogue: the middle that its tip takes back is noticed in the patches', async (t) => {
  const { series } = await loadSeries(
    join(catalogueDir, 'mended-depth'),
    undefined,
    new AbortController().signal,
  );
  t.deepEqual(transientPatches(series.patches), [3]);
  const plain = await loadSeries(
    join(catalogueDir, 'no-size-update'),
    undefined,
    new AbortController().signal,
  );
  t.deepEqual(transientPatches(plain.series.patches), []);
});

for (const recording of recordings) {
  test(`catalogue: the recorded gate of ${recording.name} is judged right`, (t) => {
    const expected = catalogue.find(({ name }) => name === recording.name);
    if (expected === undefined) return t.fail('no entry in the catalogue');
    const gate = judgeAgain(recording);
    t.deepEqual(mismatches(expected, gate, gateExitCode(gate)), []);
  });
}

test('catalogue: a wrong answer is noticed', (t) => {
  const recording = recordings.find(({ name }) => name === 'no-size-update');
  const expected = catalogue.find(({ name }) => name === 'no-size-update');
  if (recording === undefined || expected === undefined) return t.fail('not there');
  const gate = judgeAgain(recording);
  t.is(mismatches(expected, { ...gate, verdicts: [] }, 0).length, 2);
  const elsewhere = gate.verdicts.map((verdict) =>
    verdict.patch === null ? verdict : { ...verdict, patch: { first: 1, last: 1 } },
  );
  t.is(mismatches(expected, { ...gate, verdicts: elsewhere }, 1).length, 1);
  t.is(mismatches({ ...expected, regressed: [] }, gate, 1).length, 1);
});

test('catalogue: what a gate saw is recorded by test and patch, a complaint of the kernel by its fingerprint', (t) => {
  const sample = { message: null, durationMs: 1, evidence: [], faults: [] };
  const splat = { kind: 'warning', title: 'WARNING', fingerprint: 'warning x' };
  const recorded = recordingOf('x', {
    gate: { patches: [fakePatch(1), fakePatch(2, { sameAs: 1, warnings: ['w'] })] },
    stops: [{ patches: [0] }, { patches: [1, 2] }],
    visits: [
      { stop: 0, wanted: 'all', samples: [{ ...sample, test: 'a/b: c', seen: 'pass', outcome: 'passed' }] },
      {
        stop: 1,
        wanted: 'all',
        samples: [
          { ...sample, test: 'a/b: c', seen: 'fail', outcome: 'failed' },
          { ...sample, test: 'a/b: c', seen: 'fail', outcome: 'failed', faults: [splat] },
        ],
      },
    ],
    transient: [2],
    known: new Set(['a/b: c', 'a/b: that did not run']),
  });
  t.deepEqual(recorded.runs, { 'a/b: c': { '0': ['pass'], '1': ['fail', 'warning x'] } });
  t.deepEqual(recorded.titles, { 'warning x': 'WARNING' });
  t.deepEqual(recorded.known, ['a/b: c']);
  t.like(recorded.patches[1], { sameAs: 1, warnings: ['w'], transient: true });
  t.deepEqual(recordingSchema.parse(JSON.parse(JSON.stringify(recorded))), recorded);
});

/** The plan asks what it wants to know; the recording answers, its last answer again and again. */
function judgeAgain(recording: Recording): GateResult {
  const patches: readonly Patch[] = recording.patches.map(({ subject }, at) => patchOf(subject, at + 1));
  const builds: readonly PatchBuild[] = [
    built(0, 'base'),
    ...recording.patches.map(({ state, sameAs }, at): PatchBuild => {
      const index = at + 1;
      if (state === 'built') return built(index, sameAs === 0 ? 'base' : String(sameAs ?? index));
      return state === 'not-run'
        ? { state, index }
        : { state, index, failure: new Failure('E_X', 'series', 'recorded') };
    }),
  ];
  const stops = stopsOf(builds, new Map());
  const asked = new Map<string, number>();
  const behave =
    (id: string): Behaviour =>
    (stop) => {
      const patch = stops[stop]?.patches[0] ?? 0;
      const answers = recording.runs[id]?.[String(patch)] ?? ['pass'];
      const nth = asked.get(`${id} ${patch}`) ?? 0;
      asked.set(`${id} ${patch}`, nth + 1);
      const answer = answers[Math.min(nth, answers.length - 1)] ?? 'pass';
      if (answer === 'pass' || answer === 'fail' || answer === 'skip' || answer === 'lost') return answer;
      return { kind: 'fault', title: recording.titles[answer] ?? answer, fingerprint: answer };
    };
  const transient = recording.patches
    .flatMap((patch, at) => (patch.transient ? [at + 1] : []))
    .map((index) => stops.findIndex((stop) => stop.patches.includes(index)));
  const tests = Object.fromEntries(Object.keys(recording.runs).map((id) => [id, behave(id)]));
  const { seen, all, steps } = playGate({ stops: stops.length, tests, transient, known: recording.known });
  return gateResult({
    series: { name: recording.name, title: recording.name, count: patches.length },
    ...{
      against: null,
      base: 'recorded',
      ref: null,
      patches,
      builds,
      stops,
      seen,
      verdicts: all,
      outOfTime: false,
      notes: [],
    },
    checks: new Map(
      recording.patches.map(({ warnings }, at) => [at + 1, { warnings, lostSymbols: [], advice: [] }]),
    ),
    steps: steps.map(({ wanted, times, why, stop }) => ({
      ...{ patch: stops[stop]?.patches[0] ?? 0, times, why, cached: true, durationMs: 0 },
      wanted: wanted === 'all' ? wanted : [...wanted],
    })),
  });
}

function built(index: number, content: string): PatchBuild {
  const kernel = {
    profile: 'p',
    release: '6.12',
    role: 'patched',
    series: null,
    patch: null,
    imageSha256: content,
  } as const;
  const files = { key: content, bzImage: '', config: undefined, vmlinux: undefined };
  return { state: 'built', index, kernel: { ...kernel, ...files } };
}

function patchOf(subject: string, index: number): Patch {
  return {
    ...{
      index,
      subject,
      author: null,
      message: '',
      diff: new Uint8Array(),
      strip: 1,
      files: [],
      fingerprint: '',
    },
  };
}
