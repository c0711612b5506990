import test from 'ava';
import fc from 'fast-check';
import { canonicalDiff, DiffError, diffOffset, parseDiff } from './diff.ts';

const simple = `diff --git a/fs/fuse/file.c b/fs/fuse/file.c
index 1111111..2222222 100644
--- a/fs/fuse/file.c
+++ b/fs/fuse/file.c
@@ -10,3 +10,3 @@ static int f(void)
 a
--- b/not/a/header
+++ c/not/a/header
 d
`;

test('diff: lines of a hunk that look like headers are none', (t) => {
  const files = parseDiff(simple);
  t.is(files.length, 1);
  t.deepEqual(files[0]?.names, ['a/fs/fuse/file.c', 'b/fs/fuse/file.c']);
  t.is(files[0]?.hunks[0]?.oldStart, 10);
  t.is(files[0]?.hunks[0]?.line, 5);
});

test('diff: renames, new files and quoted names are all named', (t) => {
  const files = parseDiff(
    [
      'diff --git a/old.c b/new.c',
      'similarity index 90%',
      'rename from old.c',
      'rename to new.c',
      'diff --git "a/sp\\303\\274 ce.c" "b/sp\\303\\274 ce.c"',
      'new file mode 100755',
      '--- /dev/null',
      '+++ "b/sp\\303\\274 ce.c"',
      '@@ -0,0 +1 @@',
      '+x',
      '\\ No newline at end of file',
      '',
    ].join('\n'),
  );
  t.deepEqual(files[0]?.names, ['a/old.c', 'b/new.c', 'x/old.c', 'x/new.c']);
  t.deepEqual(files[1]?.modes, ['100755']);
  t.deepEqual(files[1]?.names, ['a/sp\u00c3\u00bc ce.c', 'b/sp\u00c3\u00bc ce.c']);
});

test('diff: a plain unified diff with dates works', (t) => {
  const files = parseDiff('--- linux.orig/a.c\t2021-01-01\n+++ linux/a.c\t2021-01-02\n@@ -1 +1 @@\n-a\n+b\n');
  t.deepEqual(files[0]?.names, ['linux.orig/a.c', 'linux/a.c']);
});

test('diff: a hunk that is cut short or damaged is refused with its line', (t) => {
  t.throws(() => parseDiff('--- a/x\n+++ b/x\n@@ -1,3 +1,3 @@\n a'), {
    instanceOf: DiffError,
    message: /cut short/,
  });
  t.throws(() => parseDiff('--- a/x\n+++ b/x\n@@ -1,3 +1,3 @@\n a\nrubbish\n'), {
    instanceOf: DiffError,
    message: 'line 5: not a line of a hunk',
  });
});

test('diff: it begins at its first file header', (t) => {
  t.is(diffOffset('text\n---\n file.c | 2 +-\n\ndiff --git a/x b/x\n'), 25);
  t.is(diffOffset('--- a/x\n+++ b/x\n'), 0);
  t.is(diffOffset('nothing\n--- here\n'), undefined);
});

test('diff: blob names, signature and hunk hints do not change what a patch is', (t) => {
  const other = simple
    .replace('1111111..2222222', 'aaaaaaa..bbbbbbb')
    .replace('static int f(void)', 'int g(void)');
  t.is(canonicalDiff(`${other}-- \n2.30.0\n`), canonicalDiff(simple));
  t.not(canonicalDiff(simple.replace(' d\n', ' e\n')), canonicalDiff(simple));
});

test('diff: any text is read or refused with a DiffError', (t) => {
  const line = fc.constantFrom(
    'diff --git a/x b/x',
    '--- a/x',
    '+++ b/x',
    '@@ -1,2 +1,2 @@',
    '@@ -x',
    '@@ -1',
    ' a',
    '+a',
    '-a',
    '-- ',
    '',
    'rename from "x',
  );
  fc.assert(
    fc.property(fc.array(line), (lines) => {
      try {
        parseDiff(lines.join('\n'));
      } catch (error) {
        if (!(error instanceof DiffError)) throw error;
      }
    }),
  );
  t.pass();
});
