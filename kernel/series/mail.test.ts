import test from 'ava';
import fc from 'fast-check';
import { beginsAsMail, parseMail, splitMbox, utf8OrLatin1 } from './mail.ts';

test('mail: an mbox is split at its From lines only', (t) => {
  const mbox = [
    'From 0123abc Mon Sep 17 00:00:00 2001\nSubject: one\n\nFrom here on it is text.\n',
    'From a@b.example Tue Jan 26 10:00:00 2021\nSubject: two\n\nbody\n',
  ].join('\n');
  const messages = splitMbox(mbox);
  t.is(messages.length, 2);
  t.true(messages[0]?.includes('From here on'));
  t.true(messages[1]?.startsWith('Subject: two'));
});

test('mail: a file without a From line is one message, an empty one is none', (t) => {
  t.is(splitMbox('Subject: x\n\nbody\n').length, 1);
  t.deepEqual(splitMbox(' \n\n'), []);
});

test('mail: a text that begins with a word and a colon has no header that goes on into the diff', (t) => {
  const diff = 'diff --git a/f b/f\n--- a/f\n+++ b/f\n@@ -1,2 +1,2 @@\n-a\n+b\n\n';
  const mail = parseMail(`Note: see below\n${diff}`);
  t.is(mail.headers.get('note'), 'see below');
  t.is(mail.body, diff);
  t.false(beginsAsMail(`Note: see below\n${diff}`));
  t.true(beginsAsMail(`\r\nX-Note: a\r\n b\r\nSubject: c\r\n\r\n${diff}`));
});

test('mail: lines of a repository keep their ends, lines of a mail program do not', (t) => {
  t.is(parseMail('Subject: x\n\n+a\r\n', 'kept').body, '+a\r\n');
  t.is(parseMail('Subject: x\r\n\r\n+a\r\n').body, '+a\n');
});

test('mail: the time for a hostile text grows no faster than the text', (t) => {
  const times = [20_000, 320_000].map((count) => {
    const quoted = `Content-Transfer-Encoding: quoted-printable\n\n${' '.repeat(count)}x\n`;
    const lines = `\nFrom ${'a'.repeat(count)}\n`.repeat(4);
    const started = performance.now();
    parseMail(quoted);
    splitMbox(lines);
    parseMail(`${'A'.repeat(count)}\n${' '.repeat(count)}x`);
    return performance.now() - started;
  });
  // Sixteen times the text; where time grew with its square, it would be 256 times as much and seconds.
  t.true((times[1] ?? 0) < 16 * (times[0] ?? 0) + 500, JSON.stringify(times));
});

test('mail: headers are unfolded and encoded words decoded', (t) => {
  const mail = parseMail(
    'From: =?UTF-8?q?J=C3=B6rg?= =?utf-8?B?IE3DvGxsZXI=?= <j@example.org>\nSubject: [PATCH 1/2]\n fuse: long\n\ntext\n',
  );
  t.is(mail.headers.get('from'), 'Jörg Müller <j@example.org>');
  t.is(mail.headers.get('subject'), '[PATCH 1/2] fuse: long');
});

test('mail: an unknown charset leaves the word as it is', (t) => {
  const mail = parseMail('Subject: =?x-nowhere?q?abc?=\n\n');
  t.is(mail.headers.get('subject'), '=?x-nowhere?q?abc?=');
});

test('mail: quoted-printable and base64 bodies are decoded byte for byte', (t) => {
  const quoted = parseMail(
    'Content-Transfer-Encoding: quoted-printable\n\n+a =3D b;=20\n+long=\n line\n+=C3=BC\n',
  );
  t.is(quoted.body, '+a = b; \n+long line\n+\u00c3\u00bc\n');
  t.is(utf8OrLatin1(quoted.body.trim().slice(-2)), 'ü');
  const packed = Buffer.from('diff --git a/x b/x\r\n').toString('base64');
  t.is(parseMail(`Content-Transfer-Encoding: base64\n\n${packed}\n`).body, 'diff --git a/x b/x\n');
});

test('mail: of a multipart message the text parts count, HTML does not', (t) => {
  const mail = parseMail(
    [
      'Content-Type: multipart/mixed; boundary="XX"',
      '',
      'preamble',
      '--XX',
      'Content-Type: text/plain',
      '',
      'hello',
      '--XX',
      'Content-Type: text/html',
      '',
      '<p>no</p>',
      '--XX',
      'Content-Type: text/x-patch; name="a.patch"',
      'Content-Transfer-Encoding: base64',
      '',
      Buffer.from('diff --git a/x b/x\n').toString('base64'),
      '--XX--',
      'epilogue',
    ].join('\n'),
  );
  t.is(mail.body, 'hello\ndiff --git a/x b/x\n');
});

test('mail: any text is taken without an exception', (t) => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), (text) => {
      for (const message of splitMbox(text)) parseMail(message);
    }),
  );
  t.pass();
});

test('mail: any body survives base64', (t) => {
  fc.assert(
    fc.property(fc.uint8Array(), (bytes) => {
      const latin1 = Buffer.from(bytes).toString('latin1').replaceAll('\r\n', '\n');
      const packed = Buffer.from(latin1, 'latin1').toString('base64');
      return parseMail(`Content-Transfer-Encoding: base64\n\n${packed}`).body === latin1;
    }),
  );
  t.pass();
});
