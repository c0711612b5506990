import test from 'ava';
import fc from 'fast-check';
import { Failure } from '#runner/lib/failure.ts';
import { parseMbox } from './mbox.ts';
import { parseSubject } from './subject.ts';

function diffOf(file: string, from: string, to: string): string {
  return `diff --git a/${file} b/${file}\n--- a/${file}\n+++ b/${file}\n@@ -1 +1 @@\n-${from}\n+${to}\n`;
}

function message(subject: string, body: string, from = 'A <a@example.org>'): string {
  return `From 0123456789 Mon Sep 17 00:00:00 2001\nFrom: ${from}\nSubject: ${subject}\n\n${body}\n`;
}

function patch(subject: string, to = subject.length.toString()): string {
  return message(
    subject,
    `Why.\n\nSigned-off-by: A <a@example.org>\n---\n f | 1 +\n\n${diffOf('f', 'a', to)}-- \n2.30.0\n`,
  );
}

test('subject: version, number and title are taken apart', (t) => {
  t.like(parseSubject('[PATCH RESEND V12 3/7] fuse: Definitions'), {
    title: 'fuse: Definitions',
    version: 12,
    number: 3,
    total: 7,
    reply: false,
  });
  t.like(parseSubject('Re: [PATCH v2 03/10] x'), { number: 3, total: 10, reply: true });
  t.like(parseSubject('fuse: no tag 1/2'), { title: 'fuse: no tag 1/2', number: undefined });
  t.like(parseSubject('[RFC][PATCH 1/2] [fs] y'), { number: 1, title: 'y' });
});

const written: readonly (readonly [string, number, number | undefined, number | undefined])[] = [
  ['[PATCHv3 2/7] x', 3, 2, 7],
  ['[PATCH-v3 2/7] x', 3, 2, 7],
  ['[PATCH v3.1 2/7] x', 3.1, 2, 7],
  ['[v3,2/7] x', 3, 2, 7],
  ['[PATCH v3,2/7] x', 3, 2, 7],
  ['[RFC,v2,02/07] x', 2, 2, 7],
  ['[v2] x', 2, undefined, undefined],
  ['[2/7 v4] x', 4, 2, 7],
  ['[PATCH v2 2/7] [backport v9] x', 2, 2, 7],
  ['[backport v9] [PATCH] x', 1, undefined, undefined],
  ['[LTP results v20 ] x', 1, undefined, undefined],
  ['[PATCH] [1/2] x', 1, 1, 2],
];
for (const [subject, version, number, total] of written) {
  test(`subject: ${subject}`, (t) => {
    t.deepEqual(parseSubject(subject), { title: 'x', version, number, total, reply: false });
  });
}

test('mbox: patches come in the order of their numbers, cover letter as title, replies left out', (t) => {
  const series = parseMbox(
    [
      patch('[PATCH v2 2/2] second'),
      message('Re: [PATCH v2 1/2] first', `> ${diffOf('f', 'a', 'b')}\nLooks wrong.`),
      message('[PATCH v2 0/2] The whole', 'Cover text.'),
      patch('[PATCH v2 1/2] first'),
    ].join('\n'),
    's',
  );
  t.deepEqual(
    series.patches.map(({ index, subject }) => `${index} ${subject}`),
    ['1 first', '2 second'],
  );
  t.is(series.title, 'The whole');
  t.is(series.patches[0]?.author, 'A <a@example.org>');
  t.true(series.patches[0]?.message.startsWith('Why.'));
  t.false(series.patches[0]?.message.includes('f | 1'));
  t.deepEqual(series.patches[0]?.files, ['f']);
});

test('mbox: of several versions in a thread the newest counts', (t) => {
  const series = parseMbox([patch('[PATCH v1 1/1] old'), patch('[PATCH v3 1/1] new')].join('\n'), 's');
  t.deepEqual(
    series.patches.map(({ subject }) => subject),
    ['new'],
  );
});

test('mbox: a version with one patch anew takes the others of the version before', (t) => {
  const first = [1, 2, 3].map((n) => patch(`[PATCH ${n}/3] number ${n}`, `v${n}`));
  const series = parseMbox([...first, patch('[PATCH v2 2/3] number 2', 'other')].join('\n'), 's');
  const diffs = series.patches.map(({ diff }) => /^\+\w+$/mu.exec(Buffer.from(diff).toString())?.[0]);
  t.deepEqual(diffs, ['+v1', '+other', '+v3']);
  t.true(series.notes?.includes('v2 does not have patches 1/3, 3/3: of v1'));
  const anew = parseMbox([...first, patch('[PATCH v1.1 2/3] number 2', 'other')].join('\n'), 's');
  t.is(anew.fingerprint, series.fingerprint);
});

test('mbox: a patch without a number is no part of a series with numbers', (t) => {
  const thread = [patch('[PATCH 1/2] a'), patch('[PATCH 2/2] b', 'b'), patch('[PATCH] another idea')];
  const series = parseMbox(thread.join('\n'), 's');
  t.deepEqual(
    series.patches.map(({ subject }) => subject),
    ['a', 'b'],
  );
  t.deepEqual(series.notes, ['left out, because it has no number: another idea']);
});

test('mbox: what a bot or a list says of its own versions is no version of the series', (t) => {
  const series = parseMbox(
    [patch('[PATCH v2 1/1] a'), message('[LTP results v20 ] x', 'all well'), patch('[RFC v1] old')].join(
      '\n',
    ),
    's',
  );
  t.is(series.patches[0]?.subject, 'a');
  t.is(series.patches.length, 1);
});

test('mbox: one patch of a series alone is taken, and said', (t) => {
  const alone = patch('[PATCH 2/3] b');
  const thread = [alone, message('Re: [PATCH 2/3] b', 'Why?')].join('\n');
  for (const text of [alone, thread]) t.deepEqual(parseMbox(text, 's').notes, ['it is patch 2/3 alone']);
});

test('mbox: messages that follow one another without an empty line are told apart', (t) => {
  const whole = [1, 2, 3].map((n) =>
    message(`[PATCH ${n}/3] number ${n}`, `Why.\n---\n${diffOf(`f${n}`, 'a', 'b')}`.trimEnd()),
  );
  const series = parseMbox(whole.join(''), 's');
  t.deepEqual(
    series.patches.map(({ files }) => files),
    [['f1'], ['f2'], ['f3']],
  );
});

test('mbox: a paragraph that begins with From and ends in a year is text', (t) => {
  const body = `Why.\n\nFrom the review of January 2021\nit is known.\n---\n${diffOf('f', 'a', 'b')}`;
  const series = parseMbox(message('[PATCH] x', body), 's');
  t.is(series.patches.length, 1);
  t.true(series.patches[0]?.message.includes('review of January 2021'));
});

test('mbox: a resend with other trailers keeps the fingerprint, another change does not', (t) => {
  const one = parseMbox(patch('[PATCH] x', 'new'), 's');
  const resent = parseMbox(patch('[PATCH v2] y', 'new').replace('Why.', 'Reviewed-by: B'), 's');
  t.is(one.fingerprint, resent.fingerprint);
  t.not(one.fingerprint, parseMbox(patch('[PATCH] x', 'newer'), 's').fingerprint);
});

test('mbox: the author in the body wins, and control characters are gone', (t) => {
  const series = parseMbox(
    message(
      '[PATCH] evil \u001b[31mred\u001b[0m ::error\u0007',
      `From: Real \u001b]0;x\u0007Author <r@example.org>\n\nText.\n---\n${diffOf('f', 'a', 'b')}`,
    ),
    's',
  );
  t.is(series.patches[0]?.subject, 'evil red ::error');
  t.is(series.patches[0]?.author, 'Real Author <r@example.org>');
  t.is(series.patches[0]?.message, 'Text.');
});

test('mbox: CRLF line ends of a mail program are undone', (t) => {
  const series = parseMbox(patch('[PATCH] x').replaceAll('\n', '\r\n'), 's');
  t.false(Buffer.from(series.patches[0]?.diff ?? []).includes(13));
});

const refused: readonly (readonly [string, string, `E_${string}`, RegExp])[] = [
  ['empty', '', 'E_SERIES_EMPTY', /empty/],
  ['without any diff', message('Re: hello', 'text'), 'E_SERIES_NO_DIFF', /no message/],
  ['a numbered patch without diff', message('[PATCH 1/1] x', 'text'), 'E_SERIES_NO_DIFF', /patch 1\/1 \(x\)/],
  [
    'a gap',
    [patch('[PATCH 1/4] a'), patch('[PATCH 3/4] c')].join('\n'),
    'E_SERIES_INCOMPLETE',
    /lacks patches 2\/4, 4\/4/,
  ],
  [
    'a cover letter with one patch of several',
    [message('[PATCH 0/7] c', 'text'), patch('[PATCH 1/7] a')].join('\n'),
    'E_SERIES_INCOMPLETE',
    /lacks patches 2\/7, /,
  ],
  [
    'a new version of which the thread has only some patches, with another total',
    [patch('[PATCH 1/2] a'), patch('[PATCH 2/2] b'), patch('[PATCH v2 2/3] c')].join('\n'),
    'E_SERIES_INCOMPLETE',
    /lacks patches 1\/3, 3\/3/,
  ],
  [
    'a new version of which the thread has only the cover letter',
    [patch('[PATCH 1/1] a'), message('[PATCH v2 0/1] c', 'text')].join('\n'),
    'E_SERIES_INCOMPLETE',
    /lacks patch 1\/1/,
  ],
  [
    'a new version without numbers',
    [patch('[PATCH 1/2] a'), patch('[PATCH 2/2] b'), patch('[PATCH v2] b')].join('\n'),
    'E_SERIES_INCOMPLETE',
    /v2 .* has no numbers \(b\)/,
  ],
  [
    'two series',
    [message('[PATCH 0/1] A', ''), patch('[PATCH 1/1] a'), patch('[PATCH 2/2] b')].join('\n'),
    'E_SERIES_MALFORMED',
    /a series of 1 and of 2 patches/,
  ],
  [
    'the same number twice',
    [patch('[PATCH 1/1] a', 'x'), patch('[PATCH 1/1] b', 'y')].join('\n'),
    'E_SERIES_MALFORMED',
    /two different patches 1\/1/,
  ],
  [
    'a path that climbs out',
    message('[PATCH] x', diffOf('../../etc/passwd', 'a', 'b')),
    'E_SERIES_UNSAFE_PATH',
    /etc\/passwd/,
  ],
  ['a path in .git', message('[PATCH] x', diffOf('.git/config', 'a', 'b')), 'E_SERIES_UNSAFE_PATH', /\.git/],
  [
    'an absolute path',
    message('[PATCH] x', '--- /etc/passwd\n+++ /etc/passwd\n@@ -1 +1 @@\n-a\n+b\n'),
    'E_SERIES_UNSAFE_PATH',
    /etc\/passwd/,
  ],
  [
    'a rename out of the tree',
    message('[PATCH] x', 'diff --git a/f b/f\nrename from f\nrename to ../../f\n'),
    'E_SERIES_UNSAFE_PATH',
    /\.\./,
  ],
  [
    'a symbolic link',
    message(
      '[PATCH] x',
      `diff --git a/f b/f\nnew file mode 120000\n--- /dev/null\n+++ b/f\n@@ -0,0 +1 @@\n+/etc\n`,
    ),
    'E_SERIES_UNSAFE_PATH',
    /symbolic link/,
  ],
  [
    'a hunk that is cut',
    message('[PATCH] x', '--- a/f\n+++ b/f\n@@ -1,9 +1,9 @@\n a\n'),
    'E_SERIES_MALFORMED',
    /patch 1 \(x\)/,
  ],
];
for (const [what, text, code, sentence] of refused) {
  test(`mbox: ${what} is refused as ${code}`, (t) => {
    const failure = t.throws(() => parseMbox(text, 's'), { instanceOf: Failure, message: sentence });
    t.is(failure.code, code);
    t.is(failure.blame, 'series');
    t.truthy(failure.hint);
  });
}

test('mbox: any text gives a series or a Failure', (t) => {
  const piece = fc.oneof(
    fc.string(),
    fc.constantFrom(
      'From x Mon Sep 17 00:00:00 2001\n',
      'Subject: [PATCH 1/2] x\n',
      '\n',
      '\n\n',
      '--- a/f\n+++ b/f\n',
      '@@ -1 +1 @@\n',
      '-a\n+b\n',
      'Content-Type: multipart/mixed; boundary=x\n',
      '--x\n',
    ),
  );
  fc.assert(
    fc.property(fc.array(piece), (pieces) => {
      try {
        parseMbox(pieces.join(''), 's');
      } catch (error) {
        if (!(error instanceof Failure)) throw error;
      }
    }),
    { numRuns: 500 },
  );
  t.pass();
});

test('mbox: any order of a series gives the same series', (t) => {
  const patches = [1, 2, 3, 4, 5].map((n) => patch(`[PATCH ${n}/5] number ${n}`, `v${n}`));
  const expected = parseMbox(patches.join('\n'), 's').fingerprint;
  fc.assert(
    fc.property(
      fc.shuffledSubarray(patches, { minLength: 5 }),
      (order) => parseMbox(order.join('\n'), 's').fingerprint === expected,
    ),
  );
  t.pass();
});
