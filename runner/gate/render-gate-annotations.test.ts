import test from 'ava';
import { fakeReport } from '#runner/report/fake-report.ts';
import type { ReportFailure } from '#runner/report/report.ts';
import { fakeGateReport, fakePatch, fakeVerdict } from './fake-gate.ts';
import { renderGateAnnotations } from './render-gate-annotations.ts';

test('annotations: one for each thing that a patch broke, with its number, none for what was so before', (t) => {
  const lines = renderGateAnnotations(fakeGateReport()).trimEnd().split('\n');
  t.deepEqual(
    lines.map((line) => /^::error title=(.*?)::/.exec(line)?.[1]),
    [
      'patch 3/4 (fuse%3A patch 3) does not build',
      'patch 2/4 (fuse%3A patch 2) breaks area/file%3A breaks',
      'patch 4/4 (fuse%3A patch 4) breaks area/file%3A one of two',
    ],
  );
});

test('annotations: a gate without a regression has none', (t) => {
  const report = fakeGateReport({
    patches: [fakePatch(1)],
    verdicts: [
      fakeVerdict('area/file: old', 'pre-existing'),
      fakeVerdict('area/file: listed', 'known-failure'),
    ],
  });
  t.is(renderGateAnnotations(report), '');
});

test('annotations: of a comparison of versions no patch is named, and of no gate at all its failure', (t) => {
  const against = fakeGateReport({
    against: {
      name: 'v12',
      spec: 'v12',
      ref: null,
      count: 1,
      newCount: 1,
      same: [],
      changed: [],
      added: [],
      dropped: [],
    },
    patches: [fakePatch(1, { subject: 'v13 in place of v12' })],
    verdicts: [fakeVerdict('area/file: breaks', 'regressed', { patch: { first: 1, last: 1 } })],
  });
  t.regex(renderGateAnnotations(against), /^::error title=v13 in place of v12 breaks area\/file%3A breaks::/);
  const failure: ReportFailure = {
    code: 'E_DISK_FULL',
    blame: 'infra',
    message: 'full',
    hint: null,
    evidence: [],
    excerpt: [],
  };
  t.is(renderGateAnnotations(fakeReport({ gate: null, failure })), '::error title=E_DISK_FULL::full\n');
});
