import test from 'ava';
import type { Patch } from '#kernel/series/series.ts';
import { filesToCompare } from './check-patches.ts';
import { parseCheckpatch } from './checkpatch.ts';
import { lostSymbols } from './config-symbols.ts';
import { hygiene } from './hygiene.ts';
import { selectionOf } from './run-step.ts';
import { blamed, stopsOf } from './stops.ts';
import type { PatchBuild } from './series-kernels.ts';
import { transientPatches } from './transient.ts';

function patchOf(overrides: Partial<Patch> & { readonly text?: string } = {}): Patch {
  const { text = '', ...rest } = overrides;
  return {
    ...{
      index: 1,
      subject: 'fuse: do a thing',
      author: 'A <a@example.org>',
      strip: 1,
      files: [],
      fingerprint: '',
    },
    message: 'Why.\n\nSigned-off-by: A <a@example.org>',
    diff: Buffer.from(text),
    ...rest,
  };
}

const said = (patch: Patch): string =>
  hygiene(patch)
    .map(({ text }) => text)
    .join('; ');

test('hygiene: a patch as it should be gives no advice', (t) => {
  t.is(said(patchOf()), '');
  const fixes = 'Why.\n\nFixes: 0123456789ab ("fuse: other")\nSigned-off-by: A <A@example.org>';
  t.is(said(patchOf({ message: fixes })), '');
});

test('hygiene: sign-off, Fixes, message and subject', (t) => {
  t.is(said(patchOf({ message: 'Why.' })), 'no Signed-off-by');
  t.is(
    said(patchOf({ message: 'Why.\n\nSigned-off-by: B <b@example.org>' })),
    'no Signed-off-by of its author',
  );
  t.is(said(patchOf({ message: 'Signed-off-by: A <a@example.org>' })), 'no commit message');
  t.regex(
    said(patchOf({ message: 'Why.\n\nFixes: 123 fuse\nSigned-off-by: A <a@example.org>' })),
    /a Fixes tag not of/,
  );
  t.is(said(patchOf({ subject: 'do a thing' })), 'the subject names no subsystem');
  t.regex(said(patchOf({ subject: `fuse: ${'x'.repeat(90)}` })), /the subject has 96 characters/);
});

test('checkpatch: its lines, each once', (t) => {
  const output =
    '-:22: WARNING:VOLATILE: Use of volatile\n-:25: WARNING:VOLATILE: Use of volatile\n-:30: ERROR:SPACING: no\ntotal: 1\n';
  t.deepEqual(
    parseCheckpatch(output).map(({ text }) => text),
    ['WARNING:VOLATILE: Use of volatile', 'ERROR:SPACING: no'],
  );
});

test('config: symbols that a patch took away', (t) => {
  t.deepEqual(
    lostSymbols('CONFIG_A=y\nCONFIG_B=4\n# CONFIG_C is not set\n', '# CONFIG_A is not set\nCONFIG_B=5\n'),
    ['A'],
  );
});

test('warnings: a patch is compared with its parent in the files that it touches', (t) => {
  const patches = [patchOf({ files: ['a.c', 'a.h'] }), patchOf({ files: ['b.c'] })];
  t.deepEqual(filesToCompare(patches, 0), ['a.c']);
  t.deepEqual(filesToCompare(patches, 1), ['a.c', 'b.c']);
  t.deepEqual(filesToCompare(patches, 2), ['b.c']);
});

test('transient: lines that come and go again within a series', (t) => {
  const add = '+++ b/f.c\n@@ -1 +1,2 @@\n+\tint wrong = 1;\n';
  const remove = '--- a/f.c\n+++ b/f.c\n@@ -1,2 +1 @@\n-\tint wrong = 1;\n+\tint right = 1;\n';
  const other = '+++ b/g.c\n+\tint other;\n';
  t.deepEqual(
    transientPatches([patchOf({ text: add }), patchOf({ text: other }), patchOf({ text: remove })]),
    [2],
  );
  t.deepEqual(transientPatches([patchOf({ text: add }), patchOf({ text: other })]), []);
});

const hunk = (lines: readonly string[]): string => ['+++ b/f.c', '@@ -1,9 +1,9 @@', ...lines, ''].join('\n');

/** Whether the second of two patches takes out code that the first has added, both as lines of a diff. */
function takesOut(first: readonly string[], second: readonly string[]): boolean {
  const patches = [first, second].map((lines) => patchOf({ text: hunk(lines) }));
  return transientPatches(patches).length > 0;
}

test('transient: what only gets something before and behind it is not taken out', (t) => {
  const call = ['+\treturn lower_read(file, to,', '+\t\t\t  pos);'];
  const framed = [
    ...['-\treturn lower_read(file, to,', '-\t\t\t  pos);', '+\tcred = override_creds(mine);'],
    ...['+\tret = lower_read(file, to, pos);', '+\trevert_creds(cred);', '+\treturn ret;'],
  ];
  t.false(takesOut(call, framed));
  t.true(takesOut(call, framed.with(3, '+\tret = lower_read(file, to, pos + 1);')));
  // Its result is not used any more: that may have been the mistake.
  t.true(takesOut(call, framed.with(3, '+\tlower_read(file, to, pos);')));
  // Not always done any more.
  t.true(takesOut(call, framed.with(3, '+\t\tret = lower_read(file, to, pos);')));
});

test('transient: a condition with another part, another number, or a line of a longer statement is taken out', (t) => {
  t.true(takesOut(['+\tif (a)', '+\t\treturn 0;'], ['-\tif (a)', '+\tif (a && b)', ' \t\treturn 0;']));
  t.true(takesOut(['+\treturn -EINVAL;'], ['-\treturn -EINVAL;', '+\treturn -EPERM;']));
  t.true(takesOut(['+\tfile->flags = 1;'], ['-\tfile->flags = 1;', '+\tfile->mode = 1;']));
  const wrapped = ['+\tdo_it(one_thing,', '+\t      another_thing);'];
  t.true(takesOut(wrapped, [' \tdo_it(one_thing,', '-\t      another_thing);', '+\t      right_thing);']));
});

function built(index: number, image: string): PatchBuild {
  const names = {
    key: image,
    bzImage: '',
    config: undefined,
    vmlinux: undefined,
    release: '6',
    profile: 'p',
  };
  return {
    state: 'built',
    index,
    kernel: { ...names, imageSha256: image, role: 'patched', series: null, patch: null },
  };
}

test('stops: patches that change no kernel are one stop with their parent; what did not build is none', (t) => {
  const failed = { state: 'not-built', index: 3, failure: new Error('x') as never } as const;
  const stops = stopsOf([built(0, 'a'), built(1, 'a'), built(2, 'b'), failed, built(4, 'c')], new Map());
  t.deepEqual(
    stops.map(({ patches }) => patches),
    [[0, 1], [2], [4]],
  );
  t.deepEqual(blamed(stops, { from: 0, to: 1 }), { first: 2, last: 2 });
  t.deepEqual(blamed(stops, { from: 1, to: 2 }), { first: 3, last: 4 });
});

test('run-step: tests by id, with what AVA would take for a pattern made harmless', (t) => {
  t.deepEqual(selectionOf(['area/file: a *b*', 'area/file: c', 'other/file: !d']), {
    files: ['suites/area/file.test.ts', 'suites/other/file.test.ts'],
    match: [String.raw`\!d`, String.raw`a \*b\*`, 'c'],
  });
});
